package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a program that runs in a lab. Its output goes to files in the
// lab's directory, which a failed test shows the end of.
type Process struct {
	Name           string
	Stdout, Stderr string // paths

	t    testing.TB
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	cmd  *exec.Cmd
	done chan struct{} // closed when it ended; then err is set
	err  error
}

// Start starts a program in the lab, in its namespaces if it has any.
func (l *Lab) Start(name string, env []string, argv ...string) *Process {
	l.t.Helper()
	p := &Process{Name: name, t: l.t, dial: l.dial, done: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = l.environ(env)
	// Its own group: a Ctrl-C at the terminal is for the test; the janitor
	// ends the rest in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if p.Stdout, p.cmd.Stdout, err = l.output(name + ".out"); err == nil {
		p.Stderr, p.cmd.Stderr, err = l.output(name + ".err")
	}
	if err == nil {
		err = l.inside(p.cmd.Start)
	}
	if err != nil {
		l.t.Fatalf("lab: start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	l.t.Cleanup(func() {
		if l.t.Failed() {
			l.t.Logf("the last of %s's stderr:\n%s", name, tail(p.Stderr, 4<<10))
		}
	})
	return p
}

// Run runs a program in the lab to its end and returns what it printed.
func (l *Lab) Run(argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = l.environ(nil)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := l.inside(cmd.Start); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// output opens a new file, with a number where name was used before.
func (l *Lab) output(name string) (string, *os.File, error) {
	for n := 0; ; n++ {
		path := l.Path(name)
		if n > 0 {
			path = l.Path(fmt.Sprintf("%s.%d", name, n))
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
		if !os.IsExist(err) {
			return path, f, err
		}
	}
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

var resident = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

// KiB is how much of it is in memory.
func (p *Process) KiB() int {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	m := resident.FindSubmatch(status)
	if err != nil || m == nil {
		p.t.Fatalf("%s: %v: %s", p.Name, err, status)
	}
	kib, _ := strconv.Atoi(string(m[1]))
	return kib
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Accepts waits until something accepts on a Unix socket, or TCP address.
func (p *Process) Accepts(address string, within time.Duration) {
	p.t.Helper()
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
	}
	p.Until(address+" accepts", within, func() bool {
		c, err := p.dial(context.Background(), network, address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// Until probes until ok, and fails the test if the process ends before that
// or it takes too long.
func (p *Process) Until(what string, within time.Duration, ok func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		select {
		case <-p.done:
			p.t.Fatalf("%s ended (%v) before %s: %s", p.Name, p.err, what, tail(p.Stderr, 2<<10))
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: not within %v: %s", p.Name, within, what)
		}
	}
}

// Stop ends the process by SIGTERM and returns how it exited. One that does
// not end in time is killed, and that is an error.
func (p *Process) Stop(within time.Duration) error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(within):
		p.Kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM and was killed", p.Name, within)
	}
}

// Kill ends the process by SIGKILL and waits for it.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// tail is the end of a file.
func tail(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > n {
		f.Seek(-n, io.SeekEnd)
	}
	b, _ := io.ReadAll(f)
	return string(b)
}
