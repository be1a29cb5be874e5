package proxy

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Peer is the process at a connection's other end: of a client, who connected;
// of an upstream, who made its listener (for a socket-activated runtime that is
// systemd). Zero and empty where the kernel or /proc doesn't tell.
func Peer(c *net.UnixConn) (pid uint32, exe string) {
	pid = peerPID(c)
	return pid, executable(pid)
}

func peerPID(c *net.UnixConn) uint32 {
	if cred := peer(c); cred != nil && cred.Pid > 0 {
		return uint32(cred.Pid)
	}
	return 0
}

// peer is nil where the kernel doesn't tell.
func peer(c *net.UnixConn) (cred *unix.Ucred) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		})
	}
	return cred
}

// Trusted says whether who is at the other end may see raw bytes: root, or who
// runs us.
func Trusted(c *net.UnixConn) bool {
	cred := peer(c)
	return cred != nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
}

func executable(pid uint32) string {
	if pid == 0 {
		return ""
	}
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return exe
}
