package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a relay process and our end of its mirror.
type child struct {
	cmd    *exec.Cmd
	mirror *net.UnixConn
	exited chan struct{} // closed when cmd.Wait has returned
	silent chan struct{} // closed when nothing more is said: it and its guard have ended
}

// startRelay starts this binary as a relay in a session of its own, so that
// neither a terminal's signals nor our death end it: it ends by its own rules.
// It outlives us while clients are connected, so that it holds nothing of ours:
// what it prints goes through us.
func startRelay(args []string, stderr io.Writer) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the relay: %w", err)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("start the relay: %w", err)
	}
	defer theirs.Close()
	// Descriptors that our own parent left open must not live as long as a
	// relay may: os/exec passes on all that are not marked so.
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	// A pipe of our own: exec.Cmd's would have Wait wait for the guard too, which
	// says what it says to the same one.
	said, says, err := os.Pipe()
	if err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("start the relay: %w", err)
	}
	defer says.Close()
	cmd := exec.Command(exe, append([]string{"relay"}, args...)...)
	cmd.Env = []string{} // ours may hold tokens for the collector
	cmd.Dir = "/"        // ours may be on a file system to be unmounted
	cmd.Stderr = says
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = ours.Close()
		_ = said.Close()
		return nil, fmt.Errorf("start the relay (%s): %w", exe, err)
	}
	c := &child{cmd: cmd, mirror: ours, exited: make(chan struct{}), silent: make(chan struct{})}
	go c.reap()
	go c.tell(said, stderr)
	return c, nil
}

func (c *child) reap() {
	_ = c.cmd.Wait()
	close(c.exited)
}

// tell passes on what the relay and its guard print. It takes everything,
// whatever becomes of it, so that their pipe never fills.
func (c *child) tell(said *os.File, to io.Writer) {
	defer close(c.silent)
	defer said.Close()
	_, _ = io.Copy(&lines{to}, said)
}

type lines struct{ to io.Writer }

func (l *lines) Write(p []byte) (int, error) {
	_, _ = l.to.Write(p)
	return len(p), nil
}

// within waits for something that closes a channel, at most so long.
func within(atMost time.Duration, done <-chan struct{}) bool {
	t := time.NewTimer(atMost)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// blame says why the mirror ended with err. A relay that could not begin has
// said so itself by the time that it exits.
func (c *child) blame(err error) error {
	if !within(goodbye, c.exited) {
		return fmt.Errorf("the relay (pid %d) does not answer: %w; if its clients hang, end it: kill -9 %[1]d", c.cmd.Process.Pid, err)
	}
	switch c.cmd.ProcessState.ExitCode() {
	case 0:
		return err // it ended because we did not understand it
	case 1:
		within(goodbye, c.silent)
		return errSaid
	}
	return &diedError{c.cmd.Process.Pid, c.cmd.ProcessState.String()}
}

// diedError is a relay's sudden death.
type diedError struct {
	pid int
	how string
}

func (e *diedError) Error() string { return fmt.Sprintf("the relay (pid %d) died: %s", e.pid, e.how) }

// socketPair makes a mirror: a stream socket with no name, which nobody but
// its two holders can reach.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "mirror")
	f := os.NewFile(uintptr(fds[0]), "mirror")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, nil, errors.New("make a socket pair: not a Unix socket")
	}
	return u, theirs, nil
}
