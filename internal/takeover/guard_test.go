package takeover

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// controls are the two ends of a control socket.
func controls(t *testing.T) (ours, theirs *control) {
	t.Helper()
	ours, f, err := controlPair()
	if err == nil {
		theirs, err = newControl(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ours.close)
	t.Cleanup(theirs.close)
	return ours, theirs
}

// deadProcess is one that has ended, and is not waited for yet.
func deadProcess(t *testing.T) *process {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := watchProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	t.Cleanup(func() { _ = cmd.Wait() })
	<-p.ended
	return p
}

// A guard that its relay has no use for leaves, whether it has refused or was let
// go, and touches nothing: a relay asks again each second, for months.
func TestGuardIsLetGo(t *testing.T) {
	o := newOld(t)
	self, err := unix.PidfdOpen(os.Getpid(), unix.PIDFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(self)
	shared, err := newProgress()
	if err != nil {
		t.Fatal(err)
	}
	defer shared.close()
	c := charge{path: o.place.path, relay: os.Getpid(), stateDir: t.TempDir()}
	for _, refuses := range []error{errors.New("no"), nil} {
		relay, guards := controls(t)
		if err := relay.say(sayWatch, c.text(), o.place.fd(), int(o.lock.file.Fd()), int(shared.file.Fd()), self); err != nil {
			t.Fatal(err)
		}
		g := &guard{control: guards, log: slog.New(slog.DiscardHandler), survives: func(charge) error { return refuses }}
		left := make(chan error, 1)
		go func() { left <- g.guard(t.Context()) }()
		if m, err := relay.hear(); err != nil || (m.kind == sayNo) != (refuses != nil) {
			t.Errorf("it says %q, %v", m.kind, err)
		}
		if refuses == nil {
			relay.close()
		}
		select {
		case err := <-left:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(2 * dyingWithin):
			t.Fatalf("it stays; it refused: %v", refuses)
		}
		if !o.isHeld() || !o.lock.isOurs() {
			t.Error("it gave the path back")
		}
	}
}

// A guard that hears at once that its relay has handed over and that it has ended
// leaves the path to the next one.
func TestGuardHearsLastWords(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	grpcServer(t, path)
	p := place(t, path)
	l, err := p.lock("/door")
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	held, err := p.take(t.Context(), nothing)
	if err != nil {
		t.Fatal(err)
	}
	defer held.close()
	defer func() { _, _ = p.Undo(false) }()
	for range 8 { // which of the two it saw first was left to chance
		relay, guards := controls(t)
		fd, err := unix.Dup(int(l.file.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		g := &guard{
			control: guards, log: slog.New(slog.DiscardHandler), place: place(t, path), relay: deadProcess(t),
			charge: charge{path: path, stateDir: t.TempDir()},
		}
		g.lock = receivedLock(g.place, fd)
		if err := held.tell(relay); err != nil {
			t.Fatal(err)
		}
		_ = relay.say(sayHanded, "")
		relay.close()
		if err := g.run(t.Context()); err != nil {
			t.Error(err)
		}
		g.close()
		if !held.isHeld() || !l.isOurs() {
			t.Fatal("the path was given back under the next relay")
		}
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
