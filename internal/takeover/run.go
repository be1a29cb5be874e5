package takeover

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Config is what a relay that takes a path over is told.
type Config struct {
	Path string // of the socket in use, or a path of our own
	// Upstream: Path is our own, and a link to this wherever no relay serves it.
	Upstream string
	// Drain bounds how long connections may outlive a detach; 0: no bound.
	Drain    time.Duration
	StateDir string // "": StateDir
	// KeepClients: none is asked to dial anew. For a CSI driver's socket: the
	// kubelet dials it for each call anyway, and its other clients are sidecars,
	// many of which exit when their connection ends, however cleanly.
	KeepClients bool
	// Unguarded: nobody restores the path if the relay is killed.
	Unguarded bool
	// Guard is where a guard listens that is a service of its own; "": the relay
	// starts one.
	Guard string
	// Door is the socket where taps come and go. "": the tap that started the
	// relay is the only one, and its end is the relay's.
	Door string
	// Orphan is for how long a path with a Door is held though no tap reads; 0: for
	// good.
	Orphan time.Duration
	// Yields says of a relay that stands there already that it is not to be replaced.
	// Nil: any is.
	Yields func(pid uint32) bool
	// Ready is told once the path is served, or nobody should wait for that any
	// longer, and what to show for it. May be nil.
	Ready func(status string)
	Log   *slog.Logger
}

const (
	// settle is how long a path must be at rest before it is taken again: a
	// runtime binds it, then sets its mode and its owner.
	settle = 200 * time.Millisecond
	// takeTries is how often a path is tried again whose server restarts at the
	// very moment.
	takeTries = 3
	// lookEvery is how often the kill switch and the path are looked at. The
	// path's events come by inotify; this is for those that the kernel dropped.
	lookEvery = time.Second
)

// Run takes cfg.Path over as soon as a tap says that it reads, and gives it back
// when ctx is done, or there is no tap any more. Meanwhile it follows the server's
// restarts. It returns when the last connection has ended.
//
// conn leads to the tap that started us; nil where taps come by cfg.Door.
func Run(ctx context.Context, cfg Config, conn *net.UnixConn) (err error) {
	r, err := newRelay(cfg)
	if err != nil {
		return err
	}
	defer r.close()
	if conn == nil {
		return r.stand(ctx)
	}
	tap, err := r.taps.Admit(conn)
	switch {
	case errors.Is(err, io.EOF):
		return nil // the tap thought better of it
	case err != nil:
		return err
	}
	var hearing sync.WaitGroup
	defer hearing.Wait()
	defer r.taps.Leave(tap)
	attached, detach := context.WithCancel(ctx)
	defer detach()
	hearing.Go(func() { r.taps.Hear(tap); detach() })
	if err := r.begin(ctx); err != nil {
		return err
	}
	why := r.run(attached)
	if why == "" && ctx.Err() != nil {
		why = "the relay was told to end by a signal"
	}
	r.detach(why)
	return nil
}

// begin takes the path, or fails.
func (r *relay) begin(ctx context.Context) (err error) {
	if err := r.find(); err != nil {
		return err
	}
	if err := r.claim(); err != nil {
		return err
	}
	err = r.take(ctx)
	for range takeTries {
		if errors.Is(err, errChanged) {
			err = r.take(ctx)
		}
	}
	return err
}

// run keeps the path, or waits for it, until there is a reason to end: it
// returns that, "" if it was asked to.
func (r *relay) run(ctx context.Context) (why string) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	rest := time.NewTimer(settle) // until a path that changed is at rest
	defer rest.Stop()
	for {
		var server bool // there is a reason to ask whether it answers
		select {
		case <-ctx.Done():
			return ""
		case m := <-r.guard.hear():
			if m.kind == sayHung {
				return r.hung()
			}
			continue
		case <-r.guard.dead():
			if err := r.reguard(ctx); err != nil {
				return r.fail("it has no guard any more: " + err.Error())
			}
			continue
		case <-r.server.end():
			r.server.close()
			r.server = nil
			server = true
		case <-r.noServer:
			server = true
		case c := <-r.successor:
			if r.handOver(c) {
				return handedOver
			}
			continue
		case <-r.taps.Changed():
		case <-r.watch.C:
			r.changed = time.Now()
			rest.Reset(settle)
		case <-tick.C:
			if err := errors.Join(Disabled(r.cfg.StateDir), r.orphaned()); err != nil {
				return err.Error()
			}
			server = r.server == nil // whose end nothing else would tell
			r.awaitProbe()
			r.readyAnyway()
		case <-rest.C:
		}
		if why := r.look(ctx, server); why != "" {
			return why
		}
	}
}

// look acts on how the path stands. A reason to end is returned.
func (r *relay) look(ctx context.Context, server bool) (why string) {
	if r.place.moved() {
		return r.fail("its directory is gone")
	}
	if !r.held {
		if reads, _ := r.taps.Reading(); reads && time.Since(r.changed) >= settle {
			r.retake(ctx)
		}
		return ""
	}
	switch s, err := r.last.Load().state(); {
	case err != nil:
		r.log.Debug("how the path stands can't be told", "cause", err) // this time
	case s == returned:
		return r.returned()
	case s == lost:
		r.release("the server took its path back")
	case server && r.last.Load().down():
		r.release("the server is down")
	default:
		if err := r.last.Load().follow(); err != nil {
			r.log.Warn("its path's new mode or owner can't be kept", "cause", err)
		}
	}
	return ""
}

func (r *relay) hung() (why string) {
	r.guard.say(sayAlive)
	return r.fail("it did not run for a while, and its guard gave the path back")
}

// fail is an end that nobody wished for: a service is to be started again.
func (r *relay) fail(why string) string {
	r.failed = errors.New(why)
	return why
}

// returned says who gave the path back. A guard has said so before it did.
func (r *relay) returned() (why string) {
	t := time.NewTimer(settle)
	defer t.Stop()
	select {
	case m := <-r.guard.hear():
		if m.kind == sayHung {
			return r.hung()
		}
	case <-t.C:
	}
	return "somebody gave the path back"
}

// release lets go of a path that is no longer ours to serve: its server is
// down, or was, and has bound it anew. A path without a server must not answer.
//
// What lies beside it stays until the path is at rest: a server that is about
// to bind there must find it as it left it.
func (r *relay) release(why string) {
	r.refuse()
	r.held, r.away, r.changed, r.cleared = false, time.Now(), time.Now(), false
	r.server.close()
	r.server = nil
	r.taps.Away(why)
}

// clear removes what lies beside a path that was released.
func (r *relay) clear() {
	if r.cleared {
		return
	}
	r.cleared = true
	if _, err := r.place.Undo(false); err != nil {
		r.log.Warn("something is left beside it", "cause", err)
	}
	r.guard.say(sayReleased)
}

// retake takes the path again, if there is a server.
func (r *relay) retake(ctx context.Context) {
	r.clear()
	if err := r.take(ctx); err != nil && !r.said && time.Since(r.away) > patience {
		r.said = true
		r.log.Info("still waiting for its server", "cause", err)
		if r.last.Load() == nil { // else it is away, and that was said
			r.taps.Away(err.Error())
		}
	}
}

// patience is how long a server's restart may take before it is said why its
// path is not taken again.
const patience = 10 * time.Second
