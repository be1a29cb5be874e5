package takeover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// guardian is the guard's process as its relay sees it. A nil one is none
// (--unguarded).
type guardian struct {
	pid     int
	cmd     *exec.Cmd // nil: it is a service, that others start again
	control *control
	exited  chan struct{} // closed when the process has, or guards us no more
	heard   chan message
	ending  chan struct{} // closed when nobody listens to it any more
	hearing sync.WaitGroup
}

// guardFD is where a guard finds its end of the control socket.
const guardFD = 3

// ControlSocket is the socket that a guard's process has inherited.
func ControlSocket() *os.File { return os.NewFile(guardFD, "control") }

// guarded has the guard hold t. Who calls on a service may find the one that is about
// to end: its socket is open for longer than it guards.
func (r *relay) guarded(ctx context.Context, t *taken) error {
	if r.cfg.Unguarded {
		return nil
	}
	for end := time.Now().Add(guardComes); ; time.Sleep(guardComes / 50) {
		err := r.guardedNow(ctx, t)
		var refused refusal
		if err == nil || r.cfg.Guard == "" || errors.As(err, &refused) || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		r.guard.end()
		r.guard = nil
		r.guardPID.Store(0)
	}
}

// guardComes is how long a guard's service may take to be started again.
const guardComes = 5 * time.Second

// guardedNow has the guard hold t, and starts one, or calls on one, if there is none.
func (r *relay) guardedNow(ctx context.Context, t *taken) (err error) {
	if r.guard == nil {
		if r.guard, err = r.charge(ctx, t); err != nil {
			return fmt.Errorf("%s: no guard for it: %w", r.cfg.Path, err)
		}
		r.guardPID.Store(int32(r.guard.pid))
	}
	if err = t.tell(r.guard.control); err == nil {
		err = r.guard.await(ctx)
	}
	if err != nil {
		r.guard.kill() // it stands still: another is started at the next try
		return fmt.Errorf("%s: its guard can't guard it: %w", r.cfg.Path, err)
	}
	return nil
}

// answerWithin is how long a guard may take to answer.
const answerWithin = 5 * time.Second

// charge finds a guard and tells it whom to guard.
func (r *relay) charge(ctx context.Context, t *taken) (g *guardian, err error) {
	if r.cfg.Guard != "" {
		g, err = callGuard(r.cfg.Guard)
	} else {
		g, err = startGuard()
	}
	if err != nil {
		return nil, err
	}
	self, err := unix.PidfdOpen(os.Getpid(), unix.PIDFD_NONBLOCK)
	if err != nil {
		g.end()
		return nil, fmt.Errorf("open a pidfd (Linux 5.10 or newer is needed): %w", err)
	}
	defer unix.Close(self)
	c := charge{path: r.place.path, server: t.pid, relay: os.Getpid(), stateDir: r.cfg.StateDir, keepClients: r.cfg.KeepClients}
	if r.cfg.Upstream != "" {
		c.server = 1 // it may be down, or another tomorrow; what ends pid 1 ends it too
	}
	err = g.control.say(sayWatch, c.text(), r.place.fd(), int(r.lock.file.Fd()), int(r.progress.file.Fd()), self)
	if err == nil {
		err = g.await(ctx)
	}
	if err != nil {
		g.end()
		return nil, err
	}
	return g, nil
}

// startGuard starts this binary as a guard.
func startGuard() (*guardian, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := controlPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(exe, "guard")
	cmd.Env, cmd.Dir, cmd.Stderr = []string{}, "/", os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		ours.close()
		return nil, fmt.Errorf("start the guard (%s): %w", exe, err)
	}
	g := newGuardian(ours, cmd.Process.Pid)
	g.cmd = cmd
	go g.reap()
	g.hearing.Go(g.listen)
	return g, nil
}

// callGuard calls on a guard that is a service of its own.
func callGuard(path string) (*guardian, error) {
	conn, err := proxy.KnockPacket(path)
	if err != nil {
		return nil, fmt.Errorf("the guard's service does not answer: %w; start it: grpc-tap guard --listen %s", err, path)
	}
	pid, _ := proxy.Peer(conn)
	g := newGuardian(&control{conn}, int(pid))
	g.hearing.Go(func() { defer close(g.exited); g.listen() })
	return g, nil
}

func newGuardian(c *control, pid int) *guardian {
	return &guardian{pid: pid, control: c, exited: make(chan struct{}), heard: make(chan message), ending: make(chan struct{})}
}

func (g *guardian) reap() {
	_ = g.cmd.Wait()
	close(g.exited)
}

// how says what ended it.
func (g *guardian) how() string {
	if g.cmd == nil {
		return "its service stopped"
	}
	return g.cmd.ProcessState.String()
}

func (g *guardian) listen() {
	for {
		m, err := g.control.hear()
		if err != nil {
			return // it has ended, or we close
		}
		m.close()
		select {
		case g.heard <- m:
		case <-g.ending:
			return
		}
	}
}

// await waits for the answer to what was said.
func (g *guardian) await(ctx context.Context) error {
	t := time.NewTimer(answerWithin)
	defer t.Stop()
	select {
	case m := <-g.heard:
		switch {
		case m.kind == sayNo:
			return refusal(m.text)
		case m.kind != sayOK:
			return fmt.Errorf("it answered %q", m.kind)
		}
		return nil
	case <-g.exited:
		return fmt.Errorf("it ended: %s", g.how())
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return fmt.Errorf("it does not answer within %v", answerWithin)
	}
}

// refusal is why a guard does not guard us. It would not the next time either.
type refusal string

func (r refusal) Error() string { return string(r) }

func (g *guardian) say(k kind) {
	if g != nil {
		_ = g.control.say(k, "") // one that is gone is seen by its exit
	}
}

// kill ends it, or where it is a service, its guarding us.
func (g *guardian) kill() {
	switch {
	case g == nil:
	case g.cmd != nil:
		_ = g.cmd.Process.Kill()
	default:
		_ = g.control.conn.CloseRead()
	}
}

func (g *guardian) hear() <-chan message {
	if g == nil {
		return nil
	}
	return g.heard
}

func (g *guardian) dead() <-chan struct{} {
	if g == nil {
		return nil
	}
	return g.exited
}

// end lets the guard go. It holds nothing any more, and ends.
func (g *guardian) end() {
	if g == nil {
		return
	}
	close(g.ending)
	g.control.close()
	g.hearing.Wait()
}

// guardDeaths within deathsWithin, and something is wrong on this node that the
// next guard would not survive either.
const guardDeaths = 3

// reguard starts another guard in the place of one that died.
func (r *relay) reguard(ctx context.Context) error {
	how := r.guard.how()
	r.guard.end()
	r.guard = nil
	r.guardPID.Store(0)
	now := time.Now()
	r.unguarded = append(r.unguarded, now)
	if n := len(r.unguarded); n >= guardDeaths && now.Sub(r.unguarded[n-guardDeaths]) < deathsWithin {
		return fmt.Errorf("%d died within %v, the last: %s", guardDeaths, deathsWithin, how)
	}
	if !r.held {
		return nil // the next taking starts one
	}
	if err := r.guarded(ctx, r.last.Load()); err != nil {
		return err
	}
	r.log.Warn("the guard died, and another has taken its place", "state", how)
	return nil
}

// guardUnheard is for how many looks a guard may not ask whether we accept,
// which it does three times in each. They are counted, not timed: a relay that
// was stopped itself has heard nobody.
const guardUnheard = 10

// awaitProbe ends a guard that stands still: its end has another started.
func (r *relay) awaitProbe() {
	r.unheard++
	if r.probed.Swap(false) || r.guard == nil || !r.held {
		r.unheard = 0
	}
	if r.unheard < guardUnheard {
		return
	}
	r.unheard = 0
	r.log.Warn("the guard stands still; it is ended")
	r.guard.kill()
}
