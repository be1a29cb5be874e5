#!/bin/sh
# A real kubelet, alone with static pods, directly on containerd and with
# grpc-tap between the two: a part of `make e2e`. Four minutes; kube.sh builds
# the kubelet. Its arguments are go test's.
set -eu
cd "$(dirname "$0")/../.."

sh test/deps.sh
KUBELET=$(sh test/lab/kube.sh)/kubelet
export KUBELET CGO_ENABLED=0

# What the tests start they end by pid, also when they are killed: see
# test/lab/janitor.go. On Debian's containerd, and on that of critest.sh where
# it has built one.
for containerd in "$(command -v containerd)" "$PWD"/.cache/v*/containerd; do
	[ -x "$containerd" ] || continue
	GRPC_TAP_CONTAINERD=$containerd go test -tags kubelet -count=1 -v -timeout 15m -run '^TestKubelet' "$@" ./test/e2e
done
