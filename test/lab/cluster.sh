#!/bin/sh
# A real cluster of one node: etcd, an API server, a kubelet, containerd and a CSI
# driver, with grpc-tap on the sockets of the latter two: a part of `make e2e`. Its
# pods are put on the node by hand, but for those of deploy: grpc-tap's own DaemonSet,
# and the OpenTelemetry Collector that its spans pass. A quarter of an hour and 3 GB of
# memory the first time, six minutes later; what it builds stays in .cache. Its arguments
# are go test's.
#
#   CHURN=10m test/lab/cluster.sh -run Churn   pods created and deleted for so long
set -eu
cd "$(dirname "$0")/../.."

kubernetes=v1.36.3
staging=v0.36.3 # the libraries that are released with it, as modules of their own
etcd=v3.6.8     # what kubernetes' own go.mod says
containerd=v2.4.2
bin=$PWD/.cache/kube-$kubernetes
export CGO_ENABLED=0

build() { # into .cache: no package has it
	[ -e "$bin/complete" ] && return 0
	echo "cluster.sh: building kubernetes $kubernetes and etcd $etcd" >&2
	mkdir -p "$bin/module"
	cp test/lab/testdata/kube/main.go "$bin/module"
	# kubernetes' go.mod looks for its libraries beside itself, where no module
	# has them, so `go install` refuses it.
	(
		cd "$bin/module"
		[ -e go.mod ] || go mod init kube
		gomod=$(go mod download -json "k8s.io/kubernetes@$kubernetes" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
		# shellcheck disable=SC2046 # a list of options
		go mod edit $(sed -n "s|^\t\(k8s.io/[a-z-]*\) => ./staging/.*|-replace=\1=\1@$staging|p" "$gomod")
		go get "k8s.io/kubernetes@$kubernetes" "go.etcd.io/etcd/server/v3@$etcd" .
		go build -p=2 -trimpath -ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$kubernetes" -o "$bin/kube" .
	)
	touch "$bin/complete"
}

install() { # the registry of containerd's images; the rest is what every test needs
	command -v docker-registry >/dev/null && return 0
	echo "cluster.sh: installing docker-registry" >&2
	apt-get update -qq
	apt-get install -qq -y --no-install-recommends docker-registry
}

sh test/deps.sh
install
build
OTELCOL=$(sh test/lab/collector.sh)
export OTELCOL

# What the tests start they end by pid, also when they are killed: see
# test/lab/janitor.go. On the containerd of critest.sh where it has built one, else
# on Debian's.
export KUBE="$bin/kube" CHURN="${CHURN:-60s}"
for newest in "$PWD/.cache/$containerd"-*/containerd; do
	[ -x "$newest" ] && export GRPC_TAP_CONTAINERD="$newest"
done
exec go test -tags cluster -count=1 -v -timeout 15m -run '^TestCluster' "$@" ./test/e2e
