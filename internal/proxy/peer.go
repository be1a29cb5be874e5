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
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	var cred *unix.Ucred
	_ = raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || cred == nil || cred.Pid <= 0 {
		return 0
	}
	return uint32(cred.Pid)
}

func executable(pid uint32) string {
	if pid == 0 {
		return ""
	}
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return exe
}
