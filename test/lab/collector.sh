#!/bin/sh
# Builds the OpenTelemetry Collector that the tests of deploy/observability run, of the
# parts in testdata/collector/builder.yaml, and prints where it is. Three minutes the
# first time; it stays in .cache.
set -eu
cd "$(dirname "$0")/../.."

version=v0.158.0 # as in builder.yaml, and of the image that deploy/observability names
bin=$PWD/.cache/otelcol-$version
manifest=$PWD/test/lab/testdata/collector/builder.yaml
export CGO_ENABLED=0 GOFLAGS=-p=2

if [ ! -x "$bin/otelcol" ]; then
	echo "collector.sh: building the OpenTelemetry Collector $version" >&2
	mkdir -p "$bin/module"
	GOBIN=$bin go install "go.opentelemetry.io/collector/cmd/builder@$version"
	(
		cd "$bin/module" # its output_path
		"$bin/builder" --config "$manifest" >&2
		mv otelcol "$bin"
	)
fi
echo "$bin/otelcol"
