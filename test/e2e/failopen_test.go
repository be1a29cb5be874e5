package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// swapped is a path of grpc-tap's own that fails open.
type swapped struct {
	path, upstream string
	t              testing.TB
}

func swap(t testing.TB, upstream string) swapped {
	t.Helper()
	return swapped{path: filepath.Join(lab.New(t).Dir, "containerd.sock"), upstream: upstream, t: t}
}

// stand starts a relay that stands by itself there, and ends it with the test.
func (w swapped) stand(args ...string) *standing {
	w.t.Helper()
	l := lab.New(w.t)
	s := &standing{path: w.path, state: l.Path("state"), t: w.t, lab: l}
	s.argv = append([]string{binary, "relay", "--listen", w.path, "--upstream", w.upstream, "--fail-open",
		"--mirror", l.Path("mirror/door"), "--state-dir", s.state}, args...)
	s.start()
	w.awaitOpen() // until a tap comes
	s.was = lookAt(w.t, w.path)
	s.was.Names = "" // it has no lock any more, at the end
	w.t.Cleanup(s.end)
	return s
}

// open holds that the path is a link to the upstream, with nothing beside it but
// what a relay that waits has.
func (w swapped) open() {
	w.t.Helper()
	if to, err := os.Readlink(w.path); err != nil || to != w.upstream {
		w.t.Errorf("%s leads to %q (%v), not to %s", w.path, to, err, w.upstream)
	}
	names, _ := os.ReadDir(filepath.Dir(w.path))
	for _, n := range names {
		if strings.Contains(n.Name(), ".grpc-tap-") {
			w.t.Errorf("%s is left", n.Name())
		}
	}
}

func (w swapped) awaitOpen() time.Time {
	w.t.Helper()
	eventually(w.t, "the path is a link again", func() bool {
		_, err := os.Readlink(w.path)
		return err == nil
	})
	return time.Now()
}

// TestFailOpen goes through all that a swapped path may meet under a kubelet's
// traffic: no relay yet, one with a tap, one stopped, one killed, its guard too.
// The path always answers from the runtime.
func TestFailOpen(t *testing.T) {
	onServers(t, func(t *testing.T, sv served) {
		w := swap(t, sv.path)
		s := w.stand()
		l := runtimeTraffic(t, w.path) // past it, by the link
		l.more(20)
		p := s.tap()
		faithful(t, l, w.path)
		decodedAgain(p, time.Now())

		// Killed: its guard puts the link back.
		s.Kill()
		back := w.awaitOpen()
		answers(t, w.path)
		l.more(20)
		p.fails("died")
		onlyInFlight(t, l, back)
		w.open()

		// Killed with its guard: the next one.
		s.start()
		p = s.tap()
		guard := childOf(s.PID(), "guard")
		if err := unix.Kill(s.PID(), unix.SIGSTOP); err != nil { // or it starts another
			t.Fatal(err)
		}
		kill(t, guard)
		s.Kill()
		p.fails("died")
		if b, err := tap(t, "restore", w.path); err != nil || !strings.Contains(b, "given back") {
			t.Errorf("restore: %v, %s", err, b)
		}
		w.open()
		answers(t, w.path)
		l.more(20)
		l.failures()

		// Stopped: nobody notices.
		s.start()
		p = s.tap()
		faithful(t, l, w.path)
		decodedAgain(p, time.Now())
		s.end()
		w.open()
		l.more(20)
		l.end()
	})
}

// TestFailOpenReplaced has one relay after another serve a swapped path.
func TestFailOpenReplaced(t *testing.T) {
	n := newFakeNode(t)
	w := swap(t, n.cri)
	s := w.stand()
	p := s.tap("--method", "Status") // all would be gigabytes
	l := runtimeTraffic(t, w.path)
	faithful(t, l, w.path)
	for range rounds(3, 100) {
		old := s.Process
		s.start()
		decodedAgain(p, time.Now())
		<-old.Done()
		if l.fine(); t.Failed() {
			t.FailNow()
		}
	}
	l.end()
}

// TestFailOpenUpstreamRestarts holds that a swapped path follows its upstream,
// which has a socket of its own, and imitates its mode.
func TestFailOpenUpstreamRestarts(t *testing.T) {
	r := lab.Containerd(t, lab.Options{})
	w := swap(t, r.Socket)
	s := w.stand()
	p := s.tap()
	l := newLoad(t)
	faithful(t, l, w.path)
	decodedAgain(p, time.Now())
	if err := r.Process.Stop(eventuallyTime); err != nil {
		t.Logf("containerd: %v", err)
	}
	r.StartAgain()
	decodedAgain(p, time.Now())
	l.failures() // while it was down
	if got, want := lookAt(t, w.path), lookAt(t, r.Socket); got.Mode != want.Mode || got.UID != want.UID || got.GID != want.GID {
		t.Errorf("the path is %+v, its upstream %+v", got, want)
	}
	l.end()
}

// TestFailOpenOrphaned holds that a swapped path that no tap reads is a link again.
func TestFailOpenOrphaned(t *testing.T) {
	n := newFakeNode(t)
	w := swap(t, n.cri)
	s := w.stand("--orphan-timeout", "5s")
	p := s.tap()
	l := runtimeTraffic(t, w.path)
	l.more(50)
	p.leave()
	<-s.Done()
	w.open()
	l.more(50)
	l.end()
}

// TestFailOpenProxy is the same path in a session's hands.
func TestFailOpenProxy(t *testing.T) {
	n := newFakeNode(t)
	w := swap(t, n.cri)
	l := lab.New(t)
	p := &Tap{Listen: w.path, Tells: true, t: t, lab: l}
	p.Process = l.Start("grpc-tap", nil, binary, "proxy", "--listen", w.path, "--upstream", n.cri, "--fail-open", "-o", "json")
	p.Until("it is on its path", eventuallyTime, func() bool { return onPath.MatchString(p.Said()) })
	answers(t, w.path)
	p.Wait("a call", isMethod("Version"))
	p.leave()
	w.open()
	answers(t, w.path)
}

// TestFailOpenRefuses holds that what is not grpc-tap's is left alone, and named.
func TestFailOpenRefuses(t *testing.T) {
	n := newFakeNode(t)
	for _, c := range []struct {
		name  string
		there func(path string) error
		says  string
	}{
		{"a file", func(p string) error { return os.WriteFile(p, nil, 0o600) }, "a file that is no socket"},
		{"another's link", func(p string) error { return os.Symlink("/elsewhere", p) }, "is a link to /elsewhere, not to the upstream"},
		{"the upstream itself", func(p string) error { return os.Link(n.cri, p) }, "somebody serves it already"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := swap(t, n.cri)
			if err := c.there(w.path); err != nil {
				t.Fatal(err)
			}
			was := lookAt(t, w.path)
			out, err := tap(t, "relay", "--listen", w.path, "--upstream", n.cri, "--fail-open", "--mirror", lab.New(t).Path("mirror/door"))
			if err == nil || !strings.Contains(out, c.says) {
				t.Errorf("%v: %s", err, out)
			}
			if now := lookAt(t, w.path); now != was {
				t.Errorf("it was %+v, and is %+v", was, now)
			}
		})
	}
}

// fails holds that a tap ends by itself with exit status 1, and says so.
func (p *Tap) fails(says string) {
	p.t.Helper()
	select {
	case <-p.Done():
	case <-time.After(eventuallyTime):
		p.t.Fatalf("the tap does not end: %s", p.Said())
	}
	p.stopped = true
	if err := p.Process.Stop(time.Second); err == nil || err.Error() != "exit status 1" || !strings.Contains(p.Said(), says) {
		p.t.Errorf("the tap ended with %v, and does not say %q:\n%s", err, says, p.Said())
	}
}

func kill(t testing.TB, pid int) {
	t.Helper()
	if !ours(pid) {
		t.Fatalf("there is no process %d of grpc-tap's", pid)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// TestRestoreNoFollow holds that a link's own place can be restored without a takeover of
// what it leads to: a swapped path's service must not end a session on the runtime's.
func TestRestoreNoFollow(t *testing.T) {
	n := newFakeNode(t)
	w := swap(t, n.cri)
	if err := os.Symlink(n.cri, w.path); err != nil {
		t.Fatal(err)
	}
	a := attach(t, n.cri)
	if out, err := tap(t, "restore", "--no-follow", w.path); err != nil || !strings.Contains(out, "it is not taken") {
		t.Errorf("restore: %v, %s", err, out)
	}
	if now := lookAt(t, n.cri); now.Inode == a.was.Inode {
		t.Error("what the link leads to was given back")
	}
	a.detach()
}
