package takeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

const (
	// probeEvery is how often the guard asks whether the relay accepts, and how
	// long it may take to. One that failed is asked again at once: three in a row
	// are 1.4 s, whenever it stopped.
	probeEvery = 350 * time.Millisecond
	// probesFailed in a row, while the server answers each time, are a hang.
	probesFailed = 3
	// stillFor is how long a relay that hangs may stand still, with not one byte
	// passed, before it is ended and the clients that wait for it dial anew.
	stillFor = 10 * time.Second
)

// Guard is the guard's process from its start to its end. It holds what the
// relay holds, gives the path back if the relay dies or hangs, and carries the
// clients that were left in the listener's backlog. f is its end of the control
// socket, log what its relay and their user read.
func Guard(ctx context.Context, f *os.File, log *slog.Logger) error {
	c, err := newControl(f)
	if err != nil {
		return err
	}
	defer c.close()
	g := &guard{control: c, log: log, survives: outliving}
	return g.guard(ctx)
}

// outliving is of a guard that its relay started: it leaves the relay's cgroup.
func outliving(c charge) error {
	left := LeaveCgroup()
	if err := outlives(c.server); err != nil {
		return errors.Join(err, left)
	}
	return nil
}

func (g *guard) guard(ctx context.Context) error {
	defer g.close()
	if guards, err := g.begin(); !guards || err != nil {
		return err
	}
	return g.run(ctx)
}

type guard struct {
	control  *control
	survives func(charge) error // says what could end this process and its relay together
	log      *slog.Logger
	place    *Place
	lock     *lock
	progress *progress
	relay    *process
	charge   charge

	taken   *taken     // nil: there is nothing to give back
	clients *orphanage // those of a path that was given back; nil: it was not

	failed int       // probes in a row
	answer chan bool // of the probe that runs; nil: none does

	hung  bool   // it is to be ended unless it moves
	moved uint64 // what it had moved
	since time.Time
}

// begin hears whom to guard, and answers whether it can.
func (g *guard) begin() (guards bool, _ error) {
	m, err := g.control.hear()
	if errors.Is(err, io.EOF) {
		return false, nil // the relay thought better of it
	}
	if err != nil {
		return false, fmt.Errorf("hear from the relay: %w", err)
	}
	if m.kind != sayWatch || len(m.fds) != 4 {
		m.close()
		return false, errors.New("guard is started by a relay: the first message is not one's")
	}
	if g.charge, err = parseCharge(m.text); err != nil {
		m.close()
		return false, err
	}
	g.place = &Place{path: g.charge.path, base: filepath.Base(g.charge.path), dir: os.NewFile(uintptr(m.fds[0]), "directory")}
	g.lock = receivedLock(g.place, m.fds[1])
	g.relay = watchPidfd(g.charge.relay, m.fds[3])
	if g.progress, err = mapProgress(os.NewFile(uintptr(m.fds[2]), "progress")); err != nil {
		return false, err
	}
	if err := g.survives(g.charge); err != nil {
		g.say(sayNo, err.Error())
		return false, nil
	}
	g.say(sayOK, "")
	return true, nil
}

// say is to a relay that may have died: its pidfd tells that, and what has to be
// done then is not to fail for want of a listener.
func (g *guard) say(k kind, text string) { _ = g.control.say(k, text) }

func (g *guard) close() {
	if g.relay == nil {
		return
	}
	g.relay.close()
	g.taken.close()
	if g.progress != nil {
		g.progress.close()
	}
	g.place.Close()
	_ = g.lock.file.Close()
}

// run is the guard's loop: all its state is this goroutine's.
func (g *guard) run(ctx context.Context) error {
	heard := make(chan message)
	var letGo <-chan time.Time
	go g.hear(ctx, heard)
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case m, ok := <-heard:
			switch {
			case ok && m.kind == sayHanded:
				m.close()
				return g.handed()
			case ok:
				g.told(m)
			case g.clients != nil || !g.needed():
				return g.leave() // nothing is left to guard
			default:
				heard = nil // it is dying, and the pidfd will tell; or it has let us go
				letGo = time.After(dyingWithin)
			}
		case <-letGo:
			return g.handed() // it lives, with another guard or none
		case <-g.relay.ended:
			if g.lastWords(heard) {
				return g.handed()
			}
			return g.buried()
		case <-g.stopped(ctx):
			return nil // the relay sees it, and finds another
		case ok := <-g.answer:
			g.answer = nil
			g.judge(ok)
		case now := <-tick.C:
			g.watchStill(now)
			g.probe()
		}
	}
}

// dyingWithin is how long a relay's end may take after its descriptors are closed.
const dyingWithin = 2 * time.Second

// stopped is closed when the service is to end: not while it carries clients.
func (g *guard) stopped(ctx context.Context) <-chan struct{} {
	if g.clients != nil {
		return nil
	}
	return ctx.Done()
}

func (g *guard) hear(ctx context.Context, to chan<- message) {
	defer close(to)
	for {
		m, err := g.control.hear()
		if err != nil {
			return
		}
		select {
		case to <- m:
		case <-ctx.Done():
			return
		}
	}
}

// lastWordsWithin is how long a relay's end of the control socket may outlive it,
// in a child that it was about to start.
const lastWordsWithin = 250 * time.Millisecond

// lastWords acts on what a relay had said before its end, most of all that another
// has its place: a guard that got no processor meanwhile hears of both at once.
func (g *guard) lastWords(heard <-chan message) (handed bool) {
	if heard == nil {
		return false // all is heard
	}
	t := time.NewTimer(lastWordsWithin)
	defer t.Stop()
	for {
		select {
		case m, ok := <-heard:
			switch {
			case !ok:
				return false
			case m.kind == sayHanded:
				m.close()
				return true
			}
			g.told(m)
		case <-t.C:
			return false
		}
	}
}

// handed is when the path is another's to guard: that of the relay that has taken
// the place of ours, or of one that ours has called. Only who came while ours hung
// is left here.
func (g *guard) handed() error {
	_ = g.lock.file.Close() // not released: it is the other relay's
	if g.clients != nil {
		g.clients.finish(g.log)
	}
	return nil
}

// told acts on what the relay says.
func (g *guard) told(m message) {
	switch m.kind {
	case sayTaken:
		t, err := receiveTaken(g.place, m.text, m.fds)
		if err != nil {
			g.say(sayNo, err.Error())
			return
		}
		g.taken.close()
		g.taken, g.failed = t, 0
		g.say(sayOK, "")
		return
	case sayReleased:
		g.hung = false
		if g.clients == nil {
			g.taken.close()
			g.taken = nil
		}
	case sayAlive:
		g.hung = false
	}
	m.close()
}

// buried is after the relay's end, whatever ended it. One that gave all back
// has removed the lock file.
func (g *guard) buried() error {
	if g.needed() {
		g.giveBack("the relay died")
		if err := RecordDeath(g.charge.stateDir, g.place.path, g.relay.pid, time.Now()); err != nil {
			g.log.Debug("a relay's death is not written down", "cause", err)
		}
	}
	return g.leave()
}

// needed says whether the relay has not given all back: it has removed the lock
// file then. Others may have removed that too, so that the path counts as well.
func (g *guard) needed() bool { return g.lock.isOurs() || g.taken.isHeld() }

// leave lets the path go, so that others may take it, and stays for the
// clients only.
func (g *guard) leave() error {
	g.lock.release()
	if g.clients != nil {
		g.clients.finish(g.log)
	}
	return nil
}

// giveBack restores the path, once, and takes over the clients that the relay
// had not accepted.
func (g *guard) giveBack(why string) {
	if g.clients != nil {
		return
	}
	log := g.log.With("path", g.place.path, "pid", g.relay.pid)
	result, err := g.place.undoOf(g.taken)
	if g.taken != nil {
		g.clients = adopt(g.taken, g.charge.keepClients)
	}
	if err != nil {
		log.Error(why)
		result = g.place.surelyUndo(g.taken, log, func() {})
	}
	log.Warn(why + "; " + outcome[result])
	if g.clients != nil {
		g.clients.sendOff(result == ServerDown, g.log)
	}
}

// probe asks the relay whether it accepts, while the path is ours.
func (g *guard) probe() {
	if g.answer != nil || g.taken == nil || g.clients != nil {
		return
	}
	answer := make(chan bool, 1)
	g.answer = answer
	go func(t *taken) { answer <- t.answers() }(g.taken)
}

// judge counts the probes that fail.
func (g *guard) judge(ok bool) {
	if ok || g.taken == nil {
		g.failed = 0
		return
	}
	if g.failed++; g.failed < probesFailed {
		g.probe()
		return
	}
	if s, err := g.taken.state(); err != nil || s != held {
		return // the relay has that to see to
	}
	g.say(sayHung, "") // first: it may run again, and wonder
	g.giveBack(fmt.Sprintf("the relay hangs: it did not answer %d times while the server did", g.failed))
	g.hung, g.moved, g.since = true, g.progress.moved().Load(), time.Now()
}

// watchStill ends a relay that hangs once it has stood still for long.
func (g *guard) watchStill(now time.Time) {
	if !g.hung {
		return
	}
	if n := g.progress.moved().Load(); n != g.moved {
		g.moved, g.since = n, now
	}
	if now.Sub(g.since) < stillFor {
		return
	}
	g.hung = false
	g.log.Warn("the relay stands still; it is ended, so that its clients dial anew", "path", g.place.path, "pid", g.relay.pid)
	_ = g.relay.kill()
}

// answers probes: true if the relay accepts. A probe that fails counts only if
// the server greets meanwhile, and if we were not kept from running ourselves:
// a machine that is too busy for one is too busy for the other.
func (t *taken) answers() bool {
	began := time.Now()
	if c, err := t.ours.dial(); err == nil {
		defer c.Close()
		_ = c.SetDeadline(began.Add(probeEvery))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			return true // closed: it was accepted, and seen to be us
		}
	}
	if time.Since(began) > 2*probeEvery {
		return true
	}
	_, err := t.server.greet(context.Background(), probeEvery)
	return err != nil
}
