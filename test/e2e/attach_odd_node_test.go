package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// The tests of attach_odd_*_test.go attach where something is odd: on a full
// disk, over a link, to what is no server. It works, or it ends in one line
// that says what and why, with everything as it was.

// serve has a fake runtime listen at path.
func serve(t testing.TB, path string) *fakecri.Runtime {
	t.Helper()
	r := fakecri.NewRuntime()
	if err := r.Start(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r
}

// listenRaw has somebody listen at path who is no gRPC server: on each
// connection talk is called, and it is closed thereafter.
func listenRaw(t testing.TB, path string, talk func(net.Conn)) {
	t.Helper()
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				talk(c)
			}()
		}
	}()
}

// undisturbed has every kind of client call at path while do runs. It holds
// that none of their calls fails, that the path is as it was, and that no
// process of ours stays.
func undisturbed(t testing.TB, path string, do func()) {
	t.Helper()
	was := lookAt(t, path)
	l := runtimeTraffic(t, path)
	l.more(20)
	do()
	l.more(20)
	l.end()
	answers(t, path)
	if now := lookAt(t, path); now != was {
		t.Errorf("%s was %+v, and is %+v", path, was, now)
	}
	nobodyStays(t)
}

// attachFails runs an attach that is to fail, and holds how it does: with this
// exit code, and in one line that says all of these and what to do.
func attachFails(t testing.TB, code int, args []string, says ...string) {
	t.Helper()
	l := lab.New(t)
	argv := append([]string{binary, "attach", "-o", "json", "--state-dir", l.Path("state"), "--for", "30s"}, args...)
	out, err := l.Run(argv...)
	fails(t, code, out, err, says...)
	next := func(mark string) bool { return strings.Contains(out, mark) }
	if code == 1 && !slices.ContainsFunc([]string{"; ", "`grpc-tap ", "grpc-tap discover", "there are "}, next) {
		t.Errorf("it does not say what to do:\n%s", out)
	}
}

// fails holds how a command has failed.
func fails(t testing.TB, code int, out string, err error, says ...string) {
	t.Helper()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Errorf("it did not end with exit code %d: %v; it said:\n%s", code, err, out)
		return
	}
	lines := 1
	if code == 2 {
		lines = 2 // and where the help is
	}
	if strings.Count(out, "\n") != lines || !strings.HasPrefix(out, "grpc-tap: ") {
		t.Errorf("not one line, that begins with grpc-tap's name:\n%s", out)
	}
	for _, s := range says {
		if !strings.Contains(out, s) {
			t.Errorf("it does not say %q:\n%s", s, out)
		}
	}
}

// nobodyStays waits until no process of ours runs, in whatever session. The
// binary is this run's own.
func nobodyStays(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(eventuallyTime); ; time.Sleep(5 * time.Millisecond) {
		left := running(binary)
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			for _, pid := range left {
				t.Errorf("process %d stays: %s", pid, procLine(pid))
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			return
		}
	}
}

// running are the processes whose executable is this one, or in this directory.
func running(path string) (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if exe, err := os.Readlink(link); err == nil && (exe == path || filepath.Dir(exe) == path) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// needRoot skips a test on a machine where it can't do what it is about.
func needRoot(t testing.TB, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("this machine cannot run it: not root (%s)", what)
	}
}

// mount mounts a file system for the test.
func mount(t testing.TB, source, dir, fsType string, flags uintptr, options string) {
	t.Helper()
	needRoot(t, "it mounts")
	if err := unix.Mount(source, dir, fsType, flags, options); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip("this machine cannot run it: it may not mount (CAP_SYS_ADMIN)")
		}
		t.Fatalf("mount %s on %s: %v", source, dir, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// remount changes a mount of the test's.
func remount(t testing.TB, dir string, flags uintptr) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
		t.Fatalf("remount %s: %v", dir, err)
	}
}

// tmpfs mounts a file system that ends with the test.
func tmpfs(t testing.TB, options string) (dir string) {
	t.Helper()
	dir = lab.New(t).Path("tmpfs") // the janitor unmounts it, whatever becomes of us
	mkdir(t, dir)
	mount(t, "tmpfs", dir, "tmpfs", 0, options)
	return dir
}

func mkdir(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// steady is clients with one connection, which they have when it is made.
type steady struct {
	*load
	conn *grpc.ClientConn
}

func steadyOn(t testing.TB, path string) *steady {
	t.Helper()
	conn, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &steady{newLoad(t), conn}
	for range 2 {
		s.add(func(ctx context.Context) error {
			_, err := cri.NewRuntimeServiceClient(conn).Version(ctx, &cri.VersionRequest{})
			return err
		})
	}
	s.more(10)
	return s
}

// end has them call some more, holds that no call failed, and hangs up.
func (s *steady) end() {
	s.t.Helper()
	s.more(50)
	s.load.end()
	s.conn.Close()
}
