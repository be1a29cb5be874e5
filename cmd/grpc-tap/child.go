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

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// child is a relay process and our end of its mirror.
type child struct {
	cmd    *exec.Cmd
	mirror *net.UnixConn
	exited chan struct{} // closed when cmd.Wait has returned
}

// startRelay starts this binary as a relay in a session of its own, so that
// neither a terminal's signals nor our death end it: it ends by its own rules.
// It outlives us while clients are connected, so that it holds nothing of ours:
// what it prints goes through us.
func startRelay(cfg proxy.Config, stderr io.Writer) (*child, error) {
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
	cmd := exec.Command(exe, "relay", "--listen", cfg.Listen, "--upstream", cfg.Upstream, "--drain", cfg.Drain.String())
	cmd.Env = []string{} // ours may hold tokens for the collector
	cmd.Dir = "/"        // ours may be on a file system to be unmounted
	cmd.Stderr = &lines{to: stderr}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("start the relay (%s): %w", exe, err)
	}
	c := &child{cmd: cmd, mirror: ours, exited: make(chan struct{})}
	go c.reap()
	return c, nil
}

func (c *child) reap() {
	_ = c.cmd.Wait()
	close(c.exited)
}

// wait waits for the process to exit, at most so long.
func (c *child) wait(atMost time.Duration) bool {
	t := time.NewTimer(atMost)
	defer t.Stop()
	select {
	case <-c.exited:
		return true
	case <-t.C:
		return false
	}
}

// blame says why the mirror ended with err. A relay that could not begin has
// said so itself by the time that it exits.
func (c *child) blame(err error) error {
	if !c.wait(goodbye) {
		return fmt.Errorf("the relay (pid %d) does not answer: %w; if its clients hang, end it: kill -9 %[1]d", c.cmd.Process.Pid, err)
	}
	switch c.cmd.ProcessState.ExitCode() {
	case 0:
		return err // it ended because we did not understand it
	case 1:
		return errSaid
	}
	return fmt.Errorf("the relay (pid %d) died: %v; its path is dead until grpc-tap is started again, connections were cut",
		c.cmd.Process.Pid, c.cmd.ProcessState)
}

// lines passes on what a relay prints. It takes everything, whatever becomes
// of it, so that the relay's pipe never fills.
type lines struct{ to io.Writer }

func (l *lines) Write(p []byte) (int, error) {
	_, _ = l.to.Write(p)
	return len(p), nil
}

// mirrorBuffer is what the kernel may hold between the relay and us, in bytes;
// it doubles it for its own use, which makes it about a message of the kubelet's
// limit, 16 MiB: one passes whole though we get no processor meanwhile. With the
// default of 208 KiB the two processes take turns, each turn waits for a
// processor, and such a list overflows the relay's queue every time. It is taken
// only while we lag. More than net.core.wmem_max is root's to ask for.
const mirrorBuffer = 8 << 20

// socketPair makes a mirror: a stream socket with no name, which nobody but
// its two holders can reach.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	if err := unix.SetsockoptInt(fds[1], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, mirrorBuffer); err != nil {
		_ = unix.SetsockoptInt(fds[1], unix.SOL_SOCKET, unix.SO_SNDBUF, mirrorBuffer)
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
