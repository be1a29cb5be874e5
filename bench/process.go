package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one that we started, or for a relay one that was started for us.
type process struct {
	name string
	pid  int
	cmd  *exec.Cmd // nil: not our child
	said *said
}

// said keeps what a process prints on stderr.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// start starts a process that ends with us, and prints to a file.
func (b *bench) start(name, stdout string, args ...string) (*process, error) {
	p := &process{name: name, said: &said{}, cmd: exec.Command(args[0], args[1:]...)}
	p.cmd.Stderr = p.said
	// Each in a session of its own, as services are, and as grpc-tap starts its
	// relay: where the kernel schedules by session (sched_autogroup_enabled), one
	// that shared ours would be compared with one that competes with us.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	out, err := os.OpenFile(stdout, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd.Stdout = out // not os/exec's own pipe
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.pid = p.cmd.Process.Pid
	b.running = append(b.running, p)
	return p, nil
}

// startRole starts this binary in one of its roles and waits until it listens.
func (b *bench) startRole(ctx context.Context, role, listen, upstream string) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := b.start(role, os.DevNull, exe, role, listen, upstream)
	if err != nil {
		return nil, err
	}
	return p, p.listens(ctx, listen)
}

// listens waits for a path to be there, without dialling it: socat serves one client.
func (p *process) listens(ctx context.Context, path string) error {
	return until(ctx, 10*time.Second, p.name+" does not listen: "+p.said.String(), func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// until waits for something that comes soon.
func until(ctx context.Context, limit time.Duration, otherwise string, done func() bool) error {
	for end := time.Now().Add(limit); !done(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(end) {
			return errors.New(otherwise)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// stop asks a process to end, and ends it if it takes more than a few seconds.
func (p *process) stop() {
	if p.cmd == nil {
		return // its own parent sees to that
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.cmd.Wait()
}

// gone: the process, which need not be our child, has ended.
func (p *process) gone() bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", p.pid))
	return errors.Is(err, fs.ErrNotExist)
}

// clockTick is USER_HZ, which the kernel has fixed at 100 for what it tells in /proc.
const clockTick = time.Second / 100

// cpu is the processor time that a process has used, all its threads (proc_pid_stat(5), fields 14 and 15).
func (p *process) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold spaces.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick
}

// memory reads a line of /proc/PID/status, in bytes: VmHWM, VmRSS, RssAnon.
func (p *process) memory(line string) int64 {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "status"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "\n"+line+":")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kb, _ := strconv.ParseInt(fields[0], 10, 64)
	return kb << 10
}
