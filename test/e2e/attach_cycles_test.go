package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/connectivity"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// rounds is how often a test of many rounds goes round: few times in CI, many
// in `make soak`.
func rounds(few, many int) int {
	if os.Getenv("SOAK") != "" {
		return many
	}
	return few
}

// descriptors counts those of a process: a server's, after its clients' and
// relays' end, are as many as before. 0: it is this process, which has others.
func descriptors(t testing.TB, pid int) int {
	t.Helper()
	if pid == 0 {
		return 0
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// onServers runs a test on a fake runtime with 110 pods and on containerd.
func onServers(t *testing.T, test func(t *testing.T, s served)) {
	t.Run("fakes", func(t *testing.T) {
		n := newFakeNode(t)
		n.AddPods(110)
		test(t, served{path: n.cri, events: containerEvents})
	})
	t.Run("containerd", func(t *testing.T) {
		r := lab.Containerd(t, lab.Options{})
		test(t, served{path: r.Socket, pid: r.PID(), events: containerdEvents})
	})
}

// served is a socket that somebody serves.
type served struct {
	path   string
	pid    int    // of the server; 0: it is this process
	events string // a method whose stream nobody ends
}

// TestAttachCycles attaches and detaches again and again, under every kind of
// traffic: not one call fails, the path is as before, and nothing stays.
func TestAttachCycles(t *testing.T) {
	onServers(t, func(t *testing.T, s served) {
		l := runtimeTraffic(t, s.path)
		before := watchEvents(t, s.path, s.events)
		l.more(20)
		open := descriptors(t, s.pid)
		n := rounds(10, 500)
		for i := range n {
			if cycle(t, s, l, before); t.Failed() {
				t.Fatalf("in round %d", i)
			}
		}
		// A client that dials for each call has one, or none, at any moment.
		eventually(t, "no descriptor is left", func() bool { return descriptors(t, s.pid) <= open+2 })
		l.end()
		t.Logf("%d cycles, %d calls, none failed", n, l.done.Load())
	})
}

func cycle(t *testing.T, s served, l *load, before *openStream) {
	a := attach(t, s.path)
	during := watchEvents(t, s.path, s.events)
	told := a.Wait("a call made while attached", isMethod("Version"))
	if told.Socket != s.path || told.Code != "OK" {
		t.Errorf("not told as it was: %s", told)
	}
	l.more(20)
	a.stopped = true
	if err := a.Process.Stop(eventuallyTime); err != nil {
		t.Errorf("attach, told to end: %v\n%s", err, a.Said())
	}
	if now := lookAt(t, s.path); now != a.was {
		t.Errorf("%s was %+v, and is %+v", s.path, a.was, now)
	}
	l.more(20)
	before.runs(t, "though it was never relayed")
	during.runs(t, "with the detach")
	during.hangUp()
	a.processesEnd()
	if t.Failed() {
		t.Logf("it said:\n%s", a.Said())
	}
}

// TestAttachKeepsSidecars holds that a CSI driver's clients are not asked to
// dial anew: many a sidecar exits then. They stay on the relay until they hang up.
func TestAttachKeepsSidecars(t *testing.T) {
	dir, err := os.MkdirTemp("", "kubelet-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "plugins", "nfs", "csi.sock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	driver := fakecri.NewDriver()
	if err := driver.Start(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(driver.Stop)
	l := lab.New(t)
	a := &attached{Tap: &Tap{Listen: path, Tells: true, t: t, lab: l}, state: l.Path("state"), was: lookAt(t, path)}
	a.run(binary, "attach", "csi/"+driver.Name, "--kubelet-dir", dir, "-o", "json", "--state-dir", a.state)
	sidecar, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer sidecar.Close()
	probe := func() {
		t.Helper()
		if _, err := csi.NewIdentityClient(sidecar).Probe(t.Context(), &csi.ProbeRequest{}); err != nil {
			t.Error(err)
		}
	}
	probe()
	a.stopped = true
	if err := a.Process.Stop(eventuallyTime); err != nil {
		t.Errorf("attach: %v\n%s", err, a.Said())
	}
	if want := fmt.Sprintf("pid %d goes on relaying 1 connection", a.relay); !strings.Contains(a.Said(), want) {
		t.Errorf("it does not say %q:\n%s", want, a.Said())
	}
	probe()
	if !ours(a.relay) || sidecar.GetState() != connectivity.Ready {
		t.Errorf("the sidecar's connection is %v, its relay runs: %v", sidecar.GetState(), ours(a.relay))
	}
	sidecar.Close()
	a.isBack()
}
