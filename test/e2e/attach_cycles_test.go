package e2e

import (
	"fmt"
	"os"
	"testing"

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

// TestAttachCycles attaches and detaches again and again, under every kind of
// traffic: not one call fails, the path is as before, and nothing stays.
func TestAttachCycles(t *testing.T) {
	for _, server := range []struct {
		name   string
		start  func(t *testing.T) (path string, pid int)
		events string
	}{
		{"fake runtime", func(t *testing.T) (string, int) {
			n := newFakeNode(t)
			n.AddPods(110)
			return n.cri, 0
		}, containerEvents},
		{"containerd", func(t *testing.T) (string, int) {
			r := lab.Containerd(t, lab.Options{})
			return r.Socket, r.PID()
		}, containerdEvents},
	} {
		t.Run(server.name, func(t *testing.T) {
			path, pid := server.start(t)
			l := runtimeTraffic(t, path)
			before := watchEvents(t, path, server.events)
			l.more(20)
			open := descriptors(t, pid)
			n := rounds(10, 500)
			for i := range n {
				a := attach(t, path)
				during := watchEvents(t, path, server.events)
				told := a.Wait("a call made while attached", isMethod("Version"))
				if told.Socket != path || told.Code != "OK" {
					t.Errorf("not told as it was: %s", told)
				}
				l.more(20)
				a.stopped = true
				if err := a.Process.Stop(eventuallyTime); err != nil {
					t.Fatalf("attach, told to end: %v\n%s", err, a.Said())
				}
				if now := lookAt(t, path); now != a.was {
					t.Fatalf("round %d: %s was %+v, and is %+v", i, path, a.was, now)
				}
				l.more(20)
				before.runs(t, "though it was never relayed")
				during.runs(t, "with the detach")
				during.hangUp()
				a.processesEnd()
				if t.Failed() {
					t.Fatalf("in round %d; it said:\n%s", i, a.Said())
				}
			}
			// A client that dials for each call has one, or none, at any moment.
			eventually(t, "no descriptor is left", func() bool { return descriptors(t, pid) <= open+2 })
			l.end()
			t.Logf("%d cycles, %d calls, none failed", n, l.done.Load())
		})
	}
}
