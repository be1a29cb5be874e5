package takeover

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// relay is the process that has a path. All its fields but the atomic ones are
// of Run's goroutine.
type relay struct {
	cfg      Config
	log      *slog.Logger
	taps     *proxy.Audience
	door     *proxy.Door // nil: the tap started us
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
	began     time.Time
	ready     bool // Config.Ready was told
	successor chan *net.UnixConn
	unguarded []time.Time // when a guard died
	failed    error       // why it ends, if nobody wished it

	last     atomic.Pointer[taken] // by which servers are dialled, also when it is no longer held
	guardPID atomic.Int32
	probed   atomic.Bool // by the guard
}

// newRelay prepares what a relay needs wherever it is.
func newRelay(cfg Config) (r *relay, err error) {
	if cfg.StateDir == "" {
		cfg.StateDir = StateDir
	}
	r = &relay{cfg: cfg, log: cfg.Log.With("path", cfg.Path), began: time.Now(), noServer: make(chan struct{}, 1), successor: make(chan *net.UnixConn)}
	if r.progress, err = newProgress(); err != nil {
		return nil, err
	}
	r.engine = proxy.New(proxy.Options{
		Dial:  r.dial,
		Moved: r.progress.moved(),
		// A path that has come to lead back to us must not have us dial ourselves
		// without end.
		Probe: func(pid uint32) bool { return ourselves(pid) || r.guards(pid) },
		Lost:  func() { signal(r.noServer) },
	})
	r.taps = proxy.NewAudience(r.engine, cfg.Path, cfg.Upstream, r.redial)
	return r, nil
}

// redial is a tap's wish to decode a connection.
func (r *relay) redial(number uint64) {
	if !r.cfg.KeepClients {
		r.engine.Redial(number)
	}
}

// find opens the place, and watches it, if anything may be taken here.
func (r *relay) find() (err error) {
	if err := errors.Join(Disabled(r.cfg.StateDir), Tripped(r.cfg.StateDir)); err != nil {
		return errors.Join(err, r.giveBackDead())
	}
	if r.cfg.Upstream != "" {
		r.place, err = OpenLink(r.cfg.Path, r.cfg.Upstream)
	} else {
		r.place, err = Open(r.cfg.Path)
	}
	if err == nil {
		r.watch, err = r.place.watchName()
	}
	return err
}

// giveBackDead is for a path whose relay was killed with its guard, where nothing may be
// taken: nobody else comes for it.
func (r *relay) giveBackDead() error {
	st, err := Read(r.cfg.Path)
	if err != nil || !st.Taken || st.By != 0 || r.cfg.Upstream != "" { // a link is not dead
		return nil
	}
	did, _, err := Restore(r.cfg.Path, false)
	if err == nil {
		r.log.Warn("an earlier grpc-tap was killed here; " + did)
	}
	return err
}

// claim makes the place ours, but for the path itself.
func (r *relay) claim() error {
	// Before the lock file is made: what must not be taken is not touched.
	at, err := r.place.look(r.place.base)
	if err != nil {
		return err
	}
	defer at.close()
	if err := r.place.refuse(at); err != nil && at != nil {
		return err
	}
	by, _ := r.place.signed()
	if r.lock, err = r.place.lock(r.cfg.Door); err != nil {
		return err
	}
	result, err := r.place.Undo(true)
	if err != nil {
		return err
	}
	if result != NotTaken {
		r.log.Warn("an earlier grpc-tap was killed here; " + outcome[result])
	}
	if result == Restored { // what else lies there may be from before a reboot
		if err := RecordDeath(r.cfg.StateDir, r.place.path, by.pid, time.Now()); err != nil {
			r.log.Warn("a relay's death is not written down", "cause", err)
		}
		if err := Tripped(r.cfg.StateDir); err != nil {
			return err
		}
	}
	r.away, r.cleared = time.Now(), true
	if r.cfg.Upstream != "" {
		return r.place.putLink()
	}
	return nil
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// end gives up what claim took, but for the clients.
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
	r.progress.close()
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
	t, err := r.place.take(ctx, func(t *taken) error { return r.serve(ctx, t) })
	if err != nil {
		r.guard.say(sayReleased)
		return err
	}
	r.hold(t)
	return nil
}

// hold is when the path is ours.
func (r *relay) hold(t *taken) {
	r.held, r.said = true, false
	var upstream error
	if r.cfg.Upstream != "" {
		upstream = proxy.Probe(r.cfg.Upstream)
	} else if t.pid != 0 {
		var err error
		if r.server, err = watchProcess(t.pid); err != nil {
			signal(r.noServer) // it ended meanwhile, most likely
		}
	}
	r.taps.Serving(upstream)
	r.isReady()
}

// isReady keeps nobody waiting any longer.
func (r *relay) isReady() {
	r.ready = true
	switch {
	case r.cfg.Ready == nil:
	case r.held:
		r.cfg.Ready("serving " + r.cfg.Path)
	default:
		r.cfg.Ready("waiting for a tap and a server, to take over " + r.cfg.Path)
	}
}

// readyAnyway is for where no tap comes, as at a node's boot.
func (r *relay) readyAnyway() {
	if !r.ready && time.Since(r.began) > patience {
		r.isReady()
	}
}

// serve is called when t listens, and before it is at the path: from then on
// clients may come.
func (r *relay) serve(ctx context.Context, t *taken) error {
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
