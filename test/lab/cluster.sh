#!/bin/sh
# A real cluster of one node: etcd, an API server, a kubelet, containerd and a CSI
# driver, with grpc-tap on the sockets of the latter two: a part of `make e2e`. Its
# pods are put on the node by hand, but for those of deploy: grpc-tap's own DaemonSet,
# and the OpenTelemetry Collector that its spans pass. Six minutes; kube.sh and
# collector.sh build what it needs. Its arguments are go test's.
#
#   CHURN=10m test/lab/cluster.sh -run Churn   pods created and deleted for so long
set -eu
cd "$(dirname "$0")/../.."

containerd=v2.4.2

install() { # the registry of containerd's images; the rest is what every test needs
	command -v docker-registry >/dev/null && return 0
	echo "cluster.sh: installing docker-registry" >&2
	apt-get update -qq
	apt-get install -qq -y --no-install-recommends docker-registry
}

sh test/deps.sh
install
KUBE=$(sh test/lab/kube.sh)/kube
OTELCOL=$(sh test/lab/collector.sh)
export KUBE OTELCOL CHURN="${CHURN:-60s}" CGO_ENABLED=0

# What the tests start they end by pid, also when they are killed: see
# test/lab/janitor.go. On the containerd of critest.sh where it has built one, else
# on Debian's.
for newest in "$PWD/.cache/$containerd"-*/containerd; do
	[ -x "$newest" ] && export GRPC_TAP_CONTAINERD="$newest"
done
exec go test -tags cluster -count=1 -v -timeout 15m -run '^TestCluster' "$@" ./test/e2e
