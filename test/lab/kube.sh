#!/bin/sh
# Builds Kubernetes and etcd as the one program of testdata/kube, and prints the
# directory where it is: as kube, and as kubelet, whose callees see it by that name. Ten
# minutes and 3 GB of memory the first time; it stays in .cache.
set -eu
cd "$(dirname "$0")/../.."

kubernetes=v1.36.3
staging=v0.36.3 # the libraries that are released with it, as modules of their own
etcd=v3.6.8     # what kubernetes' own go.mod says
bin=$PWD/.cache/kube-$kubernetes
export CGO_ENABLED=0

if [ ! -e "$bin/complete" ]; then
	echo "kube.sh: building kubernetes $kubernetes and etcd $etcd" >&2
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
	) >&2
	touch "$bin/complete"
fi
ln -f "$bin/kube" "$bin/kubelet"
echo "$bin"
