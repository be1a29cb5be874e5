package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// The tests named TestFakes… put grpc-tap between the fakes of test/fakecri,
// which say and do what a real runtime can't be brought to say and do.

// fakeNode is a fake runtime and a fake CSI driver on sockets of their own.
type fakeNode struct {
	*fakecri.Runtime
	driver   *fakecri.Driver
	cri, csi string // where they listen

	t testing.TB
}

// newFakeNode starts both; opts are the runtime's.
func newFakeNode(t testing.TB, opts ...fakecri.Option) *fakeNode {
	t.Helper()
	dir, err := os.MkdirTemp("", "fakes-") // t.TempDir's paths can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &fakeNode{
		Runtime: fakecri.NewRuntime(opts...), driver: fakecri.NewDriver(),
		cri: filepath.Join(dir, "cri.sock"), csi: filepath.Join(dir, "csi.sock"), t: t,
	}
	if err := errors.Join(n.Start(n.cri), n.driver.Start(n.csi)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	t.Cleanup(n.driver.Stop)
	return n
}

// kubelet makes a kubelet that dials these two sockets. It hangs up with the
// test at the latest, before the taps that it was made after are stopped.
func (n *fakeNode) kubelet(cri, csi string, opts ...fakecri.Option) *fakecri.Kubelet {
	n.t.Helper()
	opts = append(opts, fakecri.WithCSI(n.driver.Name, csi), fakecri.WithBackoff(time.Millisecond))
	k, err := fakecri.NewKubelet(cri, opts...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { k.Close() })
	return k
}

// fronted is a Tap, and its relay's pid: a relay has an empty environment, so
// that the lab does not know it for one of its own.
type fronted struct {
	*Tap
	relay int
}

// front is Proxy, and holds that the relay too is gone when the test ends.
func front(t testing.TB, upstream string, args ...string) *fronted {
	t.Helper()
	tap := &fronted{}
	t.Cleanup(func() {
		if tap.relay != 0 {
			tap.relayEnds()
		}
	})
	tap.Tap = Proxy(t, upstream, args...)
	if tap.Tells {
		tap.relay = relayOf(tap.Tap)
	}
	return tap
}

var servedBy = regexp.MustCompile(`relayed to \S+ by pid (\d+)`)

// relayOf is the relay's pid, as grpc-tap says it.
func relayOf(tap *Tap) (pid int) {
	tap.t.Helper()
	tap.Until("it says who relays", 10*time.Second, func() bool {
		m := servedBy.FindStringSubmatch(tap.Said())
		if m != nil {
			pid, _ = strconv.Atoi(m[1])
		}
		return m != nil
	})
	return pid
}

// relays says whether the relay runs.
func (f *fronted) relays() bool {
	cmdline, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(f.relay), "cmdline"))
	return bytes.Contains(cmdline, []byte("\x00relay\x00")) && bytes.Contains(cmdline, []byte(f.Listen))
}

// relayEnds waits for the end of the relay, whose clients have hung up.
func (f *fronted) relayEnds() {
	f.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); f.relays(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			unix.Kill(f.relay, unix.SIGKILL)
			f.t.Errorf("the relay (pid %d) stayed when its clients were gone; killed", f.relay)
			return
		}
	}
}

// eventuallyTime is how long what is sure to come may take on a busy machine.
const eventuallyTime = 20 * time.Second

// eventually waits until ok, which what describes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(eventuallyTime); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// exitCode waits for the end of grpc-tap, which something else brings about.
func (f *fronted) exitCode() int {
	f.t.Helper()
	select {
	case <-f.Done():
	case <-time.After(eventuallyTime):
		f.t.Fatalf("grpc-tap does not end; stderr:\n%s", f.Said())
	}
	f.stopped = true
	err := f.Process.Stop(time.Minute) // it has ended: this is how
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	f.t.Fatalf("grpc-tap: %v", err)
	return -1
}

// absent says whether nothing is at a path.
func absent(path string) bool {
	_, err := os.Lstat(path)
	return os.IsNotExist(err)
}
