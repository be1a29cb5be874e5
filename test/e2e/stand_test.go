package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// standing is a `grpc-tap relay --mirror` that runs: taps come to it and go.
type standing struct {
	*lab.Process
	path, state string
	argv        []string
	was         place // how the path was before

	t   testing.TB
	lab *lab.Lab
}

// stand starts a relay that stands by itself at a path in use, and ends it with
// the test.
func stand(t testing.TB, path string, args ...string) *standing {
	t.Helper()
	l := lab.New(t)
	s := &standing{path: path, state: l.Path("state"), was: lookAt(t, path), t: t, lab: l}
	s.argv = append([]string{binary, "relay", "--take", path, "--mirror", l.Path("mirror/door"), "--state-dir", s.state}, args...)
	s.start()
	t.Cleanup(s.end)
	return s
}

// start starts a relay, beside one that runs or in the place of none.
func (s *standing) start() {
	s.t.Helper()
	s.Process = s.lab.Start("relay", nil, s.argv...)
	door := s.lab.Path("mirror/door")
	s.Until("it has a door", eventuallyTime, func() bool {
		b, _ := os.ReadFile(lockBeside(s.path))
		return string(b) == fmt.Sprintf("%d\n%s\n", s.PID(), door)
	})
}

// tap comes to the relay, and waits until it reads.
func (s *standing) tap(args ...string) *Tap {
	s.t.Helper()
	p := s.visitor(args...)
	p.Until("it reads", eventuallyTime, func() bool { return onPath.MatchString(p.Said()) })
	return p
}

// visitor comes to the relay.
func (s *standing) visitor(args ...string) *Tap {
	s.t.Helper()
	p := &Tap{Listen: s.path, Tells: true, t: s.t, lab: s.lab}
	p.Process = s.lab.Start("tap", nil, append([]string{binary, "attach", s.path, "-o", "json", "--state-dir", s.state}, args...)...)
	s.t.Cleanup(p.leave)
	return p
}

// leave ends a tap by SIGTERM, and holds that it ends well.
func (p *Tap) leave() {
	p.t.Helper()
	if p.stopped {
		return
	}
	p.stopped = true
	if err := p.Process.Stop(eventuallyTime); err != nil {
		p.t.Errorf("the tap, told to end by SIGTERM: %v; stderr:\n%s", err, p.Said())
	}
}

// end ends the relay by SIGTERM, and holds that it leaves nothing.
func (s *standing) end() {
	s.t.Helper()
	select {
	case <-s.Done():
	default:
		guard := childOf(s.PID(), "guard")
		if err := s.Process.Stop(eventuallyTime); err != nil {
			s.t.Errorf("the relay, told to end by SIGTERM: %v", err)
		}
		(&attached{Tap: &Tap{t: s.t}, guard: guard}).processesEnd()
	}
	s.isBack()
}

func (s *standing) isBack() {
	s.t.Helper()
	if now := lookAt(s.t, s.path); now != s.was {
		s.t.Errorf("%s was %+v, and is %+v", s.path, s.was, now)
	}
	if left, _ := os.ReadDir(s.lab.Path("mirror")); len(left) > 0 {
		s.t.Errorf("the taps' socket is left: %v", left)
	}
}

// lockBeside is the file that says who has a path.
func lockBeside(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".grpc-tap.lock")
}

// faithful is a client that keeps its connection as long as it may, and makes
// calls that nobody else makes.
func faithful(t testing.TB, l *load, path string) {
	t.Helper()
	conn, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	rt := cri.NewRuntimeServiceClient(conn)
	l.add(func(ctx context.Context) error {
		_, err := rt.Status(ctx, &cri.StatusRequest{})
		time.Sleep(5 * time.Millisecond)
		return err
	})
}

// decodedAgain waits for a call of the faithful client's that began after since.
func decodedAgain(p *Tap, since time.Time) time.Duration {
	p.t.Helper()
	p.Wait("a call on a connection that is older than the tap", func(r Record) bool {
		return r.Method == "Status" && r.Start.After(since)
	})
	return time.Since(since)
}

// TestStandTapKilled kills the tap and starts another, again and again: no call
// fails, and the connections that are older than it are decoded again.
func TestStandTapKilled(t *testing.T) {
	onServers(t, func(t *testing.T, sv served) {
		s := stand(t, sv.path)
		first := s.tap()
		l := runtimeTraffic(t, sv.path)
		faithful(t, l, sv.path)
		decodedAgain(first, time.Now())
		first.Killed()
		var took []time.Duration
		for i := range rounds(10, 100) {
			p := s.tap()
			took = append(took, decodedAgain(p, time.Now()))
			l.more(20)
			if i%2 == 0 {
				p.leave()
			} else {
				p.Killed()
			}
			if l.fine(); t.Failed() {
				t.FailNow()
			}
		}
		l.end()
		t.Logf("%d taps, %d calls, none failed; decoded again after %v at most", len(took), l.done.Load(), slices.Max(took))
	})
}

// TestStandRelayReplaced has one relay after the other take the place of the one
// before, while a tap reads: no call fails, and the tap goes along.
func TestStandRelayReplaced(t *testing.T) {
	onServers(t, func(t *testing.T, sv served) {
		s := stand(t, sv.path)
		p := s.tap("--method", "Status") // all would be gigabytes
		l := runtimeTraffic(t, sv.path)
		faithful(t, l, sv.path)
		decodedAgain(p, time.Now())
		var took []time.Duration
		for range rounds(10, 100) {
			old, guard := s.Process, childOf(s.PID(), "guard")
			s.start()
			since := time.Now()
			took = append(took, decodedAgain(p, since))
			l.more(20)
			(&attached{Tap: &Tap{t: t}, guard: guard}).processesEnd()
			select {
			case <-old.Done():
			case <-time.After(eventuallyTime):
				t.Errorf("the old relay (pid %d) stays", old.PID())
			}
			if l.fine(); t.Failed() {
				t.Fatalf("the tap said:\n%s", p.Said())
			}
		}
		l.end()
		p.leave()
		t.Logf("%d relays, %d calls, none failed; decoded again after %v at most", len(took), l.done.Load(), slices.Max(took))
	})
}

// TestStandOrphaned holds that a relay that no tap reads gives the path back, and
// that its clients go there.
func TestStandOrphaned(t *testing.T) {
	onServers(t, func(t *testing.T, sv served) {
		s := stand(t, sv.path, "--orphan-timeout", "5s")
		p := s.tap()
		l := runtimeTraffic(t, sv.path)
		l.more(50)
		guard := childOf(s.PID(), "guard")
		p.leave()
		select {
		case <-s.Done():
		case <-time.After(eventuallyTime):
			t.Fatal("the relay stays")
		}
		if err := s.Process.Stop(time.Second); err != nil {
			t.Errorf("the relay ended with %v", err)
		}
		(&attached{Tap: &Tap{t: t}, guard: guard}).processesEnd()
		s.isBack()
		l.more(50)
		l.end()
	})
}

// TestStandSeats holds who reads: the newest; and when that leaves, who stood by.
func TestStandSeats(t *testing.T) {
	n := newFakeNode(t)
	s := stand(t, n.cri)
	first := s.tap()
	second := s.tap()
	first.Until("it stands by", eventuallyTime, func() bool { return strings.Contains(first.Said(), "standing by") })
	since := time.Now()
	answers(t, n.cri)
	version := func(r Record) bool { return r.Method == "Version" && r.Start.After(since) }
	second.Wait("a call", version)
	if i := slices.IndexFunc(first.Records(), version); i >= 0 {
		t.Error("who stands by tells calls too")
	}
	second.leave()
	first.Until("it reads again", eventuallyTime, func() bool { return strings.Count(first.Said(), "relayed by pid") == 2 })
	since = time.Now()
	answers(t, n.cri)
	first.Wait("a call", version)
}

// TestStandReload holds that SIGHUP has a new process take the relay's place.
func TestStandReload(t *testing.T) {
	n := newFakeNode(t)
	s := stand(t, n.cri)
	p := s.tap()
	l := runtimeTraffic(t, n.cri)
	faithful(t, l, n.cri)
	decodedAgain(p, time.Now())
	if err := unix.Kill(s.PID(), unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	next := 0
	s.Until("another takes its place", eventuallyTime, func() bool {
		b, _ := os.ReadFile(lockBeside(s.path))
		_, _ = fmt.Sscan(string(b), &next)
		return next != s.PID() && next != 0
	})
	<-s.Done()
	decodedAgain(p, time.Now())
	l.end()
	p.leave()
	guard := childOf(next, "guard")
	if err := unix.Kill(next, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	(&attached{Tap: &Tap{t: t}, relay: next, guard: guard}).processesEnd()
}

// TestStandDirectoryGone holds that an end that nobody wished for is a failure, so that
// a service manager starts the relay again.
func TestStandDirectoryGone(t *testing.T) {
	l := lab.New(t)
	path := l.Path("driver/csi.sock")
	mkdir(t, filepath.Dir(path))
	d := fakecri.NewDriver()
	if err := d.Start(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	s := &standing{path: path, state: l.Path("state"), t: t, lab: l}
	s.argv = []string{binary, "relay", "--take", path, "--mirror", l.Path("mirror/door"), "--state-dir", s.state}
	s.start()
	if err := os.Rename(filepath.Dir(path), l.Path("elsewhere")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(eventuallyTime):
		t.Fatal("the relay stays")
	}
	if err := s.Process.Stop(time.Second); err == nil || err.Error() != "exit status 1" {
		t.Errorf("it ended with %v", err)
	}
}
