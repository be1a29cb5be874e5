package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// answers holds that a call is answered.
func answers(t testing.TB, path string) {
	t.Helper()
	if err := version(path); err != nil {
		t.Errorf("%s does not answer: %v", path, err)
	}
}

// version makes one call on a connection of its own.
func version(path string) error {
	conn, err := dial(path)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = cri.NewRuntimeServiceClient(conn).Version(context.Background(), &cri.VersionRequest{})
	return err
}

// awaitBack waits until path leads to inode again, and returns when it did.
func awaitBack(t testing.TB, path string, inode uint64) time.Time {
	t.Helper()
	for end := time.Now().Add(eventuallyTime); ; {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatalf("%s is absent: %v", path, err)
		}
		if st.Ino == inode {
			return time.Now()
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not given back", path)
		}
	}
}

// onlyInFlight holds that no call failed that began after the path was back,
// and that none of the others was refused.
func onlyInFlight(t testing.TB, l *load, back time.Time) (cut int) {
	t.Helper()
	for _, f := range l.failures() {
		cut++
		switch {
		case f.began.After(back):
			t.Errorf("a call that began %v after the path was back: %v", f.began.Sub(back), f.err)
		case status.Code(f.err) != codes.Unavailable, strings.Contains(f.err.Error(), "refused"), strings.Contains(f.err.Error(), "no such file"):
			t.Errorf("a call was not cut but: %v", f.err)
		}
	}
	return cut
}

// TestAttachRelayKilled kills the relay at random moments under every kind of
// traffic: the path is back by its guard, only calls in flight are cut, no
// connection is refused, and attach says what happened.
func TestAttachRelayKilled(t *testing.T) {
	onServers(t, func(t *testing.T, s served) {
		l := runtimeTraffic(t, s.path)
		before := watchEvents(t, s.path, s.events)
		var took []time.Duration
		cut := 0
		for range rounds(10, 150) {
			a := attach(t, s.path)
			l.more(rand.Int64N(60))
			killed := time.Now()
			a.kill(a.relay, unix.SIGKILL)
			back := awaitBack(t, s.path, a.was.Inode)
			took = append(took, back.Sub(killed))
			if said := a.fails(); !strings.Contains(said, fmt.Sprintf("the relay (pid %d) died: signal: killed", a.relay)) ||
				!strings.Contains(said, s.path+": its guard gave the path back") {
				t.Errorf("attach does not say what happened:\n%s", said)
			}
			l.more(20)
			a.isBack()
			before.runs(t, "though it was never relayed")
			if cut += onlyInFlight(t, l, back); t.Failed() {
				t.FailNow()
			}
		}
		l.end()
		slices.Sort(took)
		t.Logf("%d kills, %d of %d calls cut; path back after: median %v, 99 %% %v, at most %v",
			len(took), cut, l.done.Load(), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	})
}

// TestAttachRelayKilledAtRest measures how fast the guard is where nothing else
// wants the processors.
func TestAttachRelayKilledAtRest(t *testing.T) {
	n := newFakeNode(t)
	var took []time.Duration
	for range rounds(3, 100) {
		a := attach(t, n.cri)
		killed := time.Now()
		a.kill(a.relay, unix.SIGKILL)
		for lookAt(t, n.cri).Inode != a.was.Inode {
			time.Sleep(100 * time.Microsecond)
		}
		took = append(took, time.Since(killed))
		a.fails()
		a.isBack()
	}
	slices.Sort(took)
	t.Logf("path back after: median %v, 99 %% %v, at most %v", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}

// TestAttachRelayStopped stops the relay, as a debugger or a deadlock would: the
// guard gives the path back, who dials anew is served, and the relay is ended
// once it has stood still, so that the others dial anew too.
func TestAttachRelayStopped(t *testing.T) {
	n := newFakeNode(t)
	a := attach(t, n.cri)
	l := runtimeTraffic(t, n.cri)
	l.more(100)
	stopped := time.Now()
	a.kill(a.relay, unix.SIGSTOP)
	back := awaitBack(t, n.cri, a.was.Inode)
	answers(t, n.cri)
	t.Logf("served again after %v", time.Since(stopped))
	said := a.fails() // when the guard has ended the relay
	if !strings.Contains(said, "the relay hangs") || !strings.Contains(said, "the relay stands still") {
		t.Errorf("it is not said why:\n%s", said)
	}
	if took := time.Since(back); took < 9*time.Second {
		t.Errorf("the relay was ended after %v: 10 s it may stand still", took)
	}
	a.processesEnd()
	l.more(100)
	onlyInFlight(t, l, time.Now())
	l.more(100)
	l.end()
	if now := lookAt(t, n.cri); now != a.was {
		t.Errorf("%s was %+v, and is %+v", n.cri, a.was, now)
	}
}

// TestAttachRelayPaused stops the relay for longer than its guard waits, and
// lets it go on: no call fails, and the session ends and says why.
func TestAttachRelayPaused(t *testing.T) { onServers(t, attachRelayPaused) }

func attachRelayPaused(t *testing.T, s served) {
	a := attach(t, s.path)
	l := runtimeTraffic(t, s.path)
	during := watchEvents(t, s.path, s.events)
	l.more(100)
	a.kill(a.relay, unix.SIGSTOP)
	awaitBack(t, s.path, a.was.Inode)
	answers(t, s.path)
	a.kill(a.relay, unix.SIGCONT)
	if said := a.fails(); !strings.Contains(said, "its guard gave the path back") {
		t.Errorf("it is not said why:\n%s", said)
	}
	l.more(100)
	during.runs(t, "with the pause")
	during.hangUp()
	l.end()
	a.isBack()
}

// TestAttachRelayTerminated sends the relay the signals of a service manager
// that ends everything, twice: it gives the path back, says why, and carries
// who is connected to their end.
func TestAttachRelayTerminated(t *testing.T) {
	n := newFakeNode(t)
	a := attach(t, n.cri)
	l := runtimeTraffic(t, n.cri)
	during := watchEvents(t, n.cri, containerEvents)
	l.more(50)
	a.kill(a.relay, unix.SIGTERM)
	awaitBack(t, n.cri, a.was.Inode)
	a.kill(a.relay, unix.SIGTERM)
	if said := a.fails(); !strings.Contains(said, "the relay was told to end by a signal") {
		t.Errorf("it is not said why:\n%s", said)
	}
	l.more(50)
	during.runs(t, "with the relay's signals")
	during.hangUp()
	l.end()
	a.isBack()
}

// TestAttachFewDescriptors has more clients than the relay has descriptors for:
// they wait or are closed, and no server is taken for dead for it.
func TestAttachFewDescriptors(t *testing.T) {
	n := newFakeNode(t)
	a := attach(t, n.cri)
	var had unix.Rlimit
	if err := unix.Prlimit(a.relay, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 40, Max: 4096}, &had); err != nil {
		t.Skip("can't bound the relay's descriptors: ", err)
	}
	for range rounds(20, 200) {
		conns := make([]net.Conn, 60)
		for i := range conns {
			conns[i], _ = net.Dial("unix", n.cri)
		}
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		if now := lookAt(t, n.cri); now.Inode == 0 || now.Inode == a.was.Inode {
			t.Fatalf("the path is not the relay's any more: %+v; it said:\n%s", now, a.Said())
		}
	}
	if own := lookAt(t, neighbour(t, n.cri)); own.Inode != a.was.Inode {
		t.Errorf("the server's own socket is not beside its path: %+v", own)
	}
	// Once it has closed what it had no descriptors for.
	eventually(t, "it serves as before", func() bool { return version(n.cri) == nil })
	a.detach()
	answers(t, n.cri)
}

// TestAttachTapKilled kills attach itself: its relay gives the path back, and
// no call fails.
func TestAttachTapKilled(t *testing.T) { onServers(t, attachTapKilled) }

func attachTapKilled(t *testing.T, s served) {
	a := attach(t, s.path)
	l := runtimeTraffic(t, s.path)
	during := watchEvents(t, s.path, s.events)
	l.more(50)
	a.Killed()
	awaitBack(t, s.path, a.was.Inode)
	l.more(50)
	during.runs(t, "with attach's death")
	during.hangUp()
	l.end()
	a.isBack()
}

// stop has a process do nothing any more, in any of its threads: a signal takes
// effect when the thread that it is given to runs.
func stop(t testing.TB, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("process %d stands still", pid), func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		return !slices.ContainsFunc(threads, func(file string) bool {
			stat, _ := os.ReadFile(file)
			_, state, _ := strings.Cut(string(stat), ") ")
			return !strings.HasPrefix(state, "T")
		})
	})
}

// TestAttachBothKilled kills relay and guard at once, with nothing that would
// mend it: `restore` does, and so does the next attach.
func TestAttachBothKilled(t *testing.T) {
	n := newFakeNode(t)
	for _, mend := range []struct {
		by string
		do func(a *attached)
	}{
		{"restore", func(a *attached) {
			out, err := tap(t, "restore", n.cri)
			if err != nil || !strings.Contains(out, n.cri+": its path is given back") {
				t.Errorf("restore: %v\n%s", err, out)
			}
		}},
		{"attach", func(a *attached) {
			b := attach(t, n.cri)
			b.was = a.was
			b.detach()
		}},
	} {
		t.Run(mend.by, func(t *testing.T) {
			a := attach(t, n.cri)
			a.killAll()
			if now := lookAt(t, n.cri); now.Inode == a.was.Inode {
				t.Fatal("the path is back though everybody was killed")
			}
			mend.do(a)
			answers(t, n.cri)
			a.isBack()
		})
	}
}
