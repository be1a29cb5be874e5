package takeover

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// relay is the process that has a path. All its fields but the atomic ones are
// of Run's goroutine.
type relay struct {
	cfg      Config
	log      *slog.Logger
	mirror   *mirror.Writer
	place    *Place
	lock     *lock
	progress *progress
	watch    *watch
	guard    *guardian // nil: --unguarded
	engine   *proxy.Relay

	held      bool
	server    *process      // nil where its pid is not to be seen
	accepting chan struct{} // closed when accepting has ended
	noServer  chan struct{} // a connection's server hung up, or did not answer
	changed   time.Time     // when something last happened to the path
	away      time.Time     // since when it is not held
	cleared   bool          // and nothing of ours is beside it
	unheard   int           // looks since the guard last asked whether we accept
	said      bool          // that it takes long
	unguarded []time.Time   // when a guard died

	last     atomic.Pointer[taken] // by which servers are dialled, also when it is no longer held
	guardPID atomic.Int32
	probed   atomic.Bool // by the guard
}

// open prepares everything but the path itself.
func (r *relay) open() (err error) {
	if err := errors.Join(Disabled(r.cfg.StateDir), Tripped(r.cfg.StateDir)); err != nil {
		return err
	}
	if r.place, err = Open(r.cfg.Path); err != nil {
		return err
	}
	// Before the lock file is made: what must not be taken is not touched.
	at, err := r.place.look(r.place.base)
	if err != nil {
		return err
	}
	defer at.close()
	if err := r.place.refuse(at); err != nil && at != nil {
		return err
	}
	if r.lock, err = r.place.lock(); err != nil {
		return err
	}
	switch result, err := r.place.Undo(true); {
	case err != nil:
		return err
	case result != NotTaken:
		r.log.Warn("an earlier grpc-tap was killed here; " + outcome[result])
	}
	if r.progress, err = newProgress(); err != nil {
		return err
	}
	if r.watch, err = r.place.watchName(); err != nil {
		return err
	}
	r.engine = proxy.New(proxy.Options{
		Dial:   r.dial,
		Mirror: r.mirror,
		Moved:  r.progress.moved(),
		Probe:  r.guards,
		Lost:   func() { signal(r.noServer) },
	})
	return nil
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// end gives up what open took, but for the clients.
func (r *relay) end() {
	if r.lock != nil { // first: it tells the guard that nothing is ours any more
		r.lock.release()
		r.lock = nil
	}
	r.guard.end()
	r.guard = nil
}

func (r *relay) close() {
	r.end()
	r.server.close()
	if r.watch != nil {
		r.watch.close()
	}
	r.last.Load().close()
	if r.progress != nil {
		r.progress.close()
	}
	if r.place != nil {
		r.place.Close()
	}
}

// dial is called by every connection's goroutine.
func (r *relay) dial() (*net.UnixConn, error) { return r.last.Load().dial() }

// guards says whether pid is our guard, which asks whether we accept.
func (r *relay) guards(pid uint32) bool {
	// 0 is whoever the kernel can't name to us: any client from another pid namespace.
	if pid == 0 || r.guardPID.Load() != int32(pid) {
		return false
	}
	r.probed.Store(true)
	return true
}

// take makes the path ours and serves it.
func (r *relay) take(ctx context.Context) error {
	t, err := r.place.take(ctx, func(t *taken) error { return r.ready(ctx, t) })
	if err != nil {
		r.guard.say(sayReleased)
		return err
	}
	r.held, r.said = true, false
	if t.pid != 0 {
		if r.server, err = watchProcess(t.pid); err != nil {
			signal(r.noServer) // it ended meanwhile, most likely
		}
	}
	r.mirror.Serving(nil)
	return nil
}

// ready is called when t listens, and before it is at the path: from then on
// clients may come.
func (r *relay) ready(ctx context.Context, t *taken) error {
	if err := r.guarded(ctx, t); err != nil {
		return err
	}
	r.last.Swap(t).close()
	r.accept(t)
	return nil
}

func (r *relay) accept(t *taken) {
	ended := make(chan struct{})
	r.accepting = ended
	go func() {
		defer close(ended)
		r.engine.Accept(context.Background(), t.lis)
	}()
}

// refuse ends the accepting. Who had dialled before is in the backlog, and is
// served; nobody can follow, though the guard has the listener too.
func (r *relay) refuse() {
	t := r.last.Load()
	t.refuse()
	<-r.accepting
	for c := range proxy.Backlog(t.lis) {
		r.engine.Begin(c)
	}
	_ = t.lis.Close()
}
