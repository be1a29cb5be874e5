#!/bin/sh
# A real kubelet, alone with static pods, directly on containerd and with
# grpc-tap between the two: a part of `make e2e`. Five minutes and 2 GB of
# memory the first time, four minutes later; what it builds stays in .cache. Its
# arguments are go test's.
set -eu
cd "$(dirname "$0")/../.."

kubernetes=v1.36.3
staging=v0.36.3 # the libraries that are released with it, as modules of their own
bin=$PWD/.cache/kubelet-$kubernetes
export CGO_ENABLED=0

build() { # into .cache: no package has it
	[ -e "$bin/complete" ] && return 0
	echo "kubelet.sh: building kubelet $kubernetes" >&2
	mkdir -p "$bin/module"
	# kubernetes' go.mod looks for its libraries beside itself, where no module
	# has them, so `go install` refuses it.
	(
		cd "$bin/module"
		[ -e go.mod ] || go mod init kubelet
		gomod=$(go mod download -json "k8s.io/kubernetes@$kubernetes" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
		# shellcheck disable=SC2046 # a list of options
		go mod edit $(sed -n "s|^\t\(k8s.io/[a-z-]*\) => ./staging/.*|-replace=\1=\1@$staging|p" "$gomod")
		go get "k8s.io/kubernetes/cmd/kubelet@$kubernetes"
		go build -p=2 -trimpath -ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$kubernetes" \
			-o "$bin/kubelet" k8s.io/kubernetes/cmd/kubelet
	)
	touch "$bin/complete"
}

sh test/deps.sh
build

# What the tests start they end by pid, also when they are killed: see
# test/lab/janitor.go. On Debian's containerd, and on that of critest.sh where
# it has built one.
export KUBELET="$bin/kubelet"
for containerd in "$(command -v containerd)" "$PWD"/.cache/v*/containerd; do
	[ -x "$containerd" ] || continue
	GRPC_TAP_CONTAINERD=$containerd go test -tags kubelet -count=1 -v -timeout 15m -run '^TestKubelet' "$@" ./test/e2e
done
