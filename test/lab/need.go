package lab

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Install is what brings every component that a test may need to a bare
// Debian 12; `make test` runs it.
const Install = "apt-get update && apt-get install -y --no-install-recommends " +
	"containerd runc busybox-static containernetworking-plugins iptables systemd prometheus"

// needPrivileges skips the test where no effort of ours could make it run:
// these are properties of the machine. Each skip names what is missing.
func needPrivileges(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this machine cannot run it: not root (containerd mounts and makes namespaces)")
	}
	probe := exec.Command("/bin/true")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC}
	if err := probe.Run(); err != nil {
		t.Skipf("this machine cannot run it: no new namespaces (CAP_SYS_ADMIN): %v", err)
	}
	fs, err := os.ReadFile("/proc/filesystems")
	if err == nil && !strings.Contains(string(fs), "\toverlay\n") && exec.Command("modprobe", "overlay").Run() != nil {
		t.Skip("this machine cannot run it: the kernel has no overlay file system")
	}
}

// need finds a program, and fails the test where it is not installed: that
// can be mended, so it is no reason to skip.
func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is not installed; run: %s", program, Install)
	}
	return path
}

// needFile is need for what is not in PATH.
func needFile(t testing.TB, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run: %s", err, Install)
	}
	return path
}
