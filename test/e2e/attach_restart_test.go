package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// neighbour is the server's own socket while ours is at its path.
func neighbour(t testing.TB, path string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".grpc-tap-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("beside %s: %q (%v), not one neighbour", path, found, err)
	}
	return found[0]
}

// backOn waits until attach is on its path for the nth time after its first.
func (a *attached) backOn(n int) {
	a.t.Helper()
	a.Until("it is on its path again", eventuallyTime, func() bool {
		return strings.Count(a.Said(), "on "+a.Listen+" again") >= n
	})
	a.was.Inode = lookAt(a.t, neighbour(a.t, a.Listen)).Inode // the server's new one
}

// TestAttachContainerdRestarts restarts containerd under attach, gracefully and
// by SIGKILL: it always starts, the path always leads to it, and the tap is back.
func TestAttachContainerdRestarts(t *testing.T) {
	r := lab.Containerd(t, lab.Options{})
	a := attach(t, r.Socket)
	var longest time.Duration
	for i := range 2 * rounds(5, 50) {
		if graceful := i%2 == 0; graceful {
			if err := r.Process.Stop(eventuallyTime); err != nil {
				t.Logf("containerd ended with %v", err)
			}
		} else {
			r.Process.Kill()
			eventually(t, "its path is dead", func() bool { return unix.ECONNREFUSED == connect(r.Socket) })
		}
		r.StartAgain()
		up := time.Now()
		a.backOn(i + 1)
		longest = max(longest, time.Since(up))
		seen := len(a.Records())
		answers(t, r.Socket)
		a.Until("the call is told", eventuallyTime, func() bool { return len(a.Records()) > seen })
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d restarts; the tap was back at most %v after containerd", 2*rounds(5, 50), longest)
	a.detach()
	answers(t, r.Socket)
}

// TestAttachDriverRestarts is of a CSI driver, which the kubelet dials for each
// call: none fails but while there is no driver.
func TestAttachDriverRestarts(t *testing.T) {
	dir, err := os.MkdirTemp("", "driver-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "csi.sock")
	start := func() *fakecri.Driver {
		d := fakecri.NewDriver()
		if err := d.Start(path); err != nil {
			t.Fatalf("the driver does not start: %v", err)
		}
		t.Cleanup(d.Stop)
		return d
	}
	driver := start()
	a := attach(t, path)
	for i := range rounds(5, 50) {
		l := driverTraffic(t, path)
		l.more(30)
		l.end()
		driver.Stop()
		driver = start()
		l = driverTraffic(t, path) // before, while and after it is taken again
		a.backOn(i + 1)
		l.more(30)
		l.end()
	}
	a.detach()
}

// TestAttachServerReplaced starts a server while its predecessor still lives and
// serves, as a rolling update may: the newcomer can bind, and has the path.
func TestAttachServerReplaced(t *testing.T) {
	dir, err := os.MkdirTemp("", "driver-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "csi.sock")
	newest := ""
	start := func(i int) {
		t.Helper()
		d, name := fakecri.NewDriver(), fmt.Sprintf("driver-%d", i)
		newest = name
		d.On(csi.Identity_GetPluginInfo_FullMethodName, fakecri.Reply(func(any) (any, error) {
			return &csi.GetPluginInfoResponse{Name: name}, nil
		}))
		if err := d.Start(path); err != nil {
			t.Fatalf("the newcomer does not start: %v", err)
		}
		t.Cleanup(d.Stop)
	}
	start(0)
	a := attach(t, path)
	for i := range rounds(5, 50) {
		start(i + 1)
		a.backOn(i + 1)
		conn, err := dial(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := csi.NewIdentityClient(conn).GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{})
		conn.Close()
		if err != nil || info.GetName() != newest {
			t.Fatalf("round %d: the path leads to %q (%v), not to %s; it said:\n%s", i, info.GetName(), err, newest, a.Said())
		}
	}
	a.detach()
}

// connect says how a connect to a path fails.
func connect(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}
