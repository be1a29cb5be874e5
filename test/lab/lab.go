// Package lab runs real components for tests: containerd with runc and CNI,
// a kubelet, a registry, Prometheus, whatever a test starts beside them. Each lab has its own
// directory for roots, state and sockets, and where containers run in it its
// own network and IPC namespace, so that interfaces, iptables rules and port
// numbers never meet the machine's.
//
// Nothing is left behind. A process of its own, the janitor (janitor.go),
// cleans up, also after a test that panicked, ran into its timeout or was
// killed: what belongs to a lab carries its directory in the environment or
// in its mounts, and is ended by pid. The janitor says what it could not
// remove, and the test fails for it.
package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// marker names, in the environment of every process of a lab, the lab's
// directory. containerd hands it on to its shims.
const marker = "GRPC_TAP_LAB"

// The main thread stays with the main goroutine, so that onThread never gets
// it: it cannot end, and would stand for us in /proc/self with what was done
// to it.
func init() { runtime.LockOSThread() }

// Lab is a place to run things in. Dir is short: socket paths have 107 bytes.
type Lab struct {
	Dir string
	// CgroupParent is for the pods of this lab, so that the janitor knows
	// which cgroups are theirs.
	CgroupParent string

	t        testing.TB
	isolated bool // it has namespaces of its own
}

// New makes a lab that ends with the test. It needs no privileges until one
// of the components that do is started in it.
func New(t testing.TB) *Lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "gtlab-")
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	startJanitor(t, dir)
	return &Lab{Dir: dir, CgroupParent: "/" + filepath.Base(dir), t: t}
}

// isolate gives the lab its namespaces; it skips the test where the
// machine cannot do that, naming what it lacks.
func (l *Lab) isolate() {
	l.t.Helper()
	if l.isolated {
		return
	}
	needPrivileges(l.t)
	if err := onThread(func() error { return newNamespaces(l.Dir) }); err != nil {
		l.t.Fatalf("lab: %v", err)
	}
	l.isolated = true
}

// Processes are the processes of the lab that run, whoever started them, but
// for those in its containers.
func (l *Lab) Processes() []int { return marked(l.Dir, anyProcess) }

// Mounts are the mount points of the lab.
func (l *Lab) Mounts() []string { return mountsBelow("self", l.Dir) }

// Path is a path below the lab's directory.
func (l *Lab) Path(elem ...string) string {
	return filepath.Join(append([]string{l.Dir}, elem...)...)
}

// Write writes a file below the lab's directory and returns its path.
func (l *Lab) Write(name, content string) string {
	l.t.Helper()
	path := l.Path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatalf("lab: %v", err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		l.t.Fatalf("lab: %v", err)
	}
	return path
}

// Shared is a directory of the lab that is a mount of its own, shared as all of a
// node's are where systemd has mounted them: what is mounted in it is seen by whoever
// has it mounted, a pod's container too.
func (l *Lab) Shared(name string) string {
	l.t.Helper()
	dir := l.Path(name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		err = unix.Mount(dir, dir, "", unix.MS_BIND, "")
	}
	if err == nil {
		err = unix.Mount("", dir, "", unix.MS_SHARED, "")
	}
	if err != nil {
		l.t.Fatalf("lab: share %s: %v", dir, err)
	}
	return dir
}

// namespaces are those that a lab has of its own. Tests of host networking
// and host IPC then have the lab for a host, and may litter it.
var namespaces = map[string]int{"net": unix.CLONE_NEWNET, "ipc": unix.CLONE_NEWIPC}

// newNamespaces makes a lab's namespaces, with loopback up, and pins them in
// its directory. It spoils the calling thread.
func newNamespaces(dir string) error {
	for name, flag := range namespaces {
		if err := unix.Unshare(flag); err != nil {
			return fmt.Errorf("new %s namespace: %w", name, err)
		}
		path := filepath.Join(dir, name+".ns")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		self := fmt.Sprintf("/proc/self/task/%d/ns/%s", unix.Gettid(), name)
		if err := unix.Mount(self, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pin the %s namespace: %w", name, err)
		}
	}
	return loopbackUp()
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// inside runs f on a thread in the lab's namespaces: a process that f starts,
// or a socket that it opens, belongs there for good.
func (l *Lab) inside(f func() error) error {
	if !l.isolated {
		return f()
	}
	return onThread(func() error {
		for name, flag := range namespaces {
			ns, err := os.Open(l.Path(name + ".ns"))
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), flag); err != nil {
				return fmt.Errorf("enter the %s namespace: %w", name, err)
			}
		}
		return f()
	})
}

// dial connects from inside the lab.
func (l *Lab) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = l.inside(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Client is an HTTP client whose connections are made inside the lab.
func (l *Lab) Client() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: l.dial}}
}

// Listen opens a TCP port on the lab's own loopback, for what runs in the lab.
func (l *Lab) Listen(address string) (listener net.Listener) {
	l.t.Helper()
	l.isolate()
	err := l.inside(func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		l.t.Fatalf("lab: %v", err)
	}
	return listener
}

// onThread runs f on a thread that nobody uses afterwards: a goroutine that
// ends while locked takes its thread, and what f did to it, along.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// environ is the environment of a lab's process: without what would send its
// telemetry somewhere, with the marker that the janitor looks for.
func (l *Lab) environ(extra []string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OTEL_") && !strings.HasPrefix(kv, marker+"=") {
			env = append(env, kv)
		}
	}
	return append(append(env, extra...), marker+"="+l.Dir)
}
