package e2e

import (
	"context"
	"net"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// dialling is how a path is dialled. One that begins with /proc/PID/root is dialled in
// that process's mount namespace, where links lead where they do for it.
func dialling(path string) (target string, how grpc.DialOption) {
	f := strings.SplitN(path, "/", 5) // "", proc, PID, root, the rest
	if len(f) < 5 || f[1] != "proc" || f[3] != "root" {
		return "unix://" + path, grpc.EmptyDialOption{}
	}
	return "passthrough:///" + path, grpc.WithContextDialer(func(context.Context, string) (conn net.Conn, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // never unlocked: the thread ends, elsewhere as it is
			if err = enterMounts(f[2]); err == nil {
				conn, err = net.Dial("unix", "/"+f[4])
			}
		}()
		<-done
		return conn, err
	})
}

func enterMounts(pid string) error {
	ns, err := os.Open("/proc/" + pid + "/ns/mnt")
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
}
