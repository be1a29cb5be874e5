#!/bin/sh
# Installs what the tests need beside Go and make, from Debian's packages:
# gcc for the race detector; a runtime, its shims and a network for the real
# thing; Prometheus. Says what it does; does nothing where all is there.
set -eu
missing=
need() { # command package
	PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing="$missing $2"
}
need gcc gcc
[ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
need containerd containerd
need runc runc
need busybox busybox-static
need iptables iptables
[ -x /usr/lib/cni/bridge ] || missing="$missing containernetworking-plugins"
need systemd-analyze systemd # no daemon: a container has its own first process
[ -e /sbin/mount.nfs ] || missing="$missing nfs-common"
need prometheus prometheus # promtool too
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "the tests need:$missing" >&2
	echo "install these, or run as root on Debian, where make test installs them" >&2
	exit 1
fi
echo "installing for the tests:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# No package starts its daemon: the tests start their own.
policy=/usr/sbin/policy-rc.d
if ! [ -e $policy ]; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod +x $policy
fi
# shellcheck disable=SC2086 # a list of names
apt-get install -y -qq --no-install-recommends $missing >/dev/null
