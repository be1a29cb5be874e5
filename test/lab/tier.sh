#!/bin/sh
# Many nodes' spans through real OpenTelemetry Collectors: one, several, and several behind
# a gateway, with the configs of deploy/observability: a part of `make e2e`. Three minutes,
# and three more the first time. Its arguments are go test's.
#
#   NODES="100 1000 5000" SECONDS=30 sh test/lab/tier.sh -run Cost   what that costs: ten minutes
set -eu
cd "$(dirname "$0")/../.."

OTELCOL=$(sh test/lab/collector.sh)
export OTELCOL
exec go test -count=1 -v -timeout 30m "$@" ./test/tier
