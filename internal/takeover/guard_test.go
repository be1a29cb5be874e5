package takeover

import (
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

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
