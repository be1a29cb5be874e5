#!/bin/sh
# Kubernetes' conformance tests of container runtimes (critest), directly and
# through grpc-tap, on the newest containerd: `make e2e`. Five minutes the
# first time, three later; what it builds stays in .cache.
#
#   test/lab/critest.sh               through grpc-tap, built from the checkout
#   RELAY=socat test/lab/critest.sh   through socat, to compare
set -eu
cd "$(dirname "$0")/../.."

containerd=v2.4.2
critools=v1.36.0
bin=$PWD/.cache/$containerd-$critools
export CGO_ENABLED=0

install() { # what Debian has of it
	missing=
	for program in containerd runc busybox iptables docker-registry ipcmk "$@"; do
		command -v "$program" >/dev/null || missing="$missing $program"
	done
	[ -x /usr/lib/cni/ptp ] || missing="$missing cni"
	[ -n "$missing" ] || return 0
	echo "critest.sh: installing; not here yet:$missing" >&2
	apt-get update -qq
	apt-get install -qq -y --no-install-recommends containerd runc busybox-static \
		containernetworking-plugins iptables docker-registry util-linux "$@"
}

build() { # into .cache: the pinned versions, which no package has
	[ -e "$bin/complete" ] && return 0
	echo "critest.sh: building containerd $containerd and critest $critools" >&2
	mkdir -p "$bin"
	GOBIN=$bin GOFLAGS=-p=2 go install -trimpath -ldflags='-s -w' \
		"github.com/containerd/containerd/v2/cmd/containerd@$containerd" \
		"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@$containerd" \
		"github.com/containerd/containerd/v2/cmd/ctr@$containerd"
	# cri-tools' go.mod has replacements, so `go install` refuses it.
	(
		mkdir -p "$bin/module"
		cd "$bin/module"
		[ -e go.mod ] || go mod init critools
		go get -t "sigs.k8s.io/cri-tools/cmd/critest@$critools" "sigs.k8s.io/cri-tools/cmd/crictl@$critools"
		go build -p=2 -trimpath -ldflags='-s -w' -o "$bin/crictl" sigs.k8s.io/cri-tools/cmd/crictl
		go test -p=2 -c -trimpath -ldflags='-s -w' -o "$bin/critest" sigs.k8s.io/cri-tools/cmd/critest
	)
	touch "$bin/complete"
}

if [ "${RELAY:-}" = socat ]; then install socat; else install; fi
build

# The test cleans up after itself by pid, also when it is killed: see
# test/lab/janitor.go. First the pod's life on this containerd, then critest.
export GRPC_TAP_CONTAINERD="$bin/containerd" CRITEST="$bin/critest" RELAY="${RELAY:-}"
exec go test -tags critest -count=1 -v -timeout 25m ./test/e2e
