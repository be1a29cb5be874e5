package takeover

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// detach gives the path back, sends the clients to it, and carries those that
// stay to their end. why is a reason that nobody asked for.
func (r *relay) detach(why string) {
	if why != "" {
		r.log.Warn("giving up: " + why)
	}
	t := r.last.Load()
	tell := sync.OnceFunc(func() { r.taps.Detached(len(r.engine.Clients())) })
	r.place.surelyUndo(t, r.log, tell)
	mounted := make(chan []Holder, 1)
	if r.held {
		go func() { mounted <- t.mounted(r.log) }()
		time.Sleep(moment)
	} else {
		mounted <- nil
	}
	if !r.cfg.KeepClients && r.place.answers() {
		r.engine.SendOff()
	}
	r.guard.say(sayReleased)
	r.end()
	tell() // it takes long to look through the mounts of a large node
	held := <-mounted
	if len(held) > 0 {
		t.serveMounted(r.log)
	}
	if r.held {
		r.refuse()
	}
	r.engine.Drain(context.Background(), r.cfg.Drain)
}

// answers says whether a client that dials anew finds somebody: one whose
// path was removed keeps the connection that it has.
func (p *Place) answers() bool {
	at, err := p.look(p.base)
	defer at.close()
	if err != nil || at == nil || p.moved() {
		return false
	}
	if at.link() {
		return proxy.Probe(at.target) == nil
	}
	lives, err := at.alive()
	return err == nil && lives
}

// undoEvery is how often it is tried again to give a path back.
const undoEvery = time.Second

// surelyUndo tries until it is done. Until then the path is ours, and who
// listens there must go on: late is called, once, if that takes longer than one
// try.
func (p *Place) surelyUndo(t *taken, log *slog.Logger, late func()) Result {
	for tried := 0; ; tried++ {
		result, err := p.undoOf(t)
		switch {
		case err == nil || p.moved():
			return result
		case t == nil || !t.isHeld(): // it is given back, whatever is left beside it
			log.Warn("something is left beside it", "cause", err)
			return result
		}
		if tried == 0 {
			log.Error("its path can't be given back yet; it is served until it can", "cause", err)
			late()
		}
		time.Sleep(undoEvery)
	}
}

// undoOf is Undo of what t took, which may be nil. Where the server's own socket
// was removed from beside the path, there is nothing to put back, and ours is the
// only way to it.
func (p *Place) undoOf(t *taken) (Result, error) {
	result, err := p.Undo(false)
	if err == nil && t.isHeld() {
		var lives bool
		if lives, err = t.server.alive(); lives {
			err = errors.New("the server's own socket was removed from beside it; restart the server")
		}
	}
	return result, err
}

// moment is how long a path that was given back goes on being accepted: for
// clients that had looked it up, and not yet connected.
const moment = 100 * time.Millisecond

// mountsEvery is how often it is looked whether anybody has our socket mounted
// still.
const mountsEvery = 5 * time.Second

// mounted names who mounted our socket as a file while it was at the path. They
// have it for good, whatever the path leads to now, and depend on its being served.
func (t *taken) mounted(log *slog.Logger) []Holder {
	all, err := t.holders()
	if err != nil {
		log.Debug("whether the socket is mounted anywhere can't be seen", "cause", err)
	}
	for _, h := range all {
		log.Warn("the socket was mounted as a file while it was tapped; it is served until that mount is gone: restart the pod",
			"at", h.At, "pid", h.PID, "process", h.Comm, "pod", h.Pod, "host", h.Host)
	}
	return all
}

func (t *taken) holders() ([]Holder, error) {
	last := t.place.asideName(t.ours.id)
	return holders(func(base string) bool { return base == last })
}

// serveMounted waits until no mount of our socket is left. Accepting goes on
// meanwhile.
func (t *taken) serveMounted(log *slog.Logger) {
	for {
		time.Sleep(mountsEvery)
		left, err := t.holders()
		if err == nil && len(left) == 0 {
			log.Debug("no mount of the socket is left")
			return
		}
	}
}

// orphanage carries the clients of a path that was given back by the guard.
type orphanage struct {
	taken     *taken
	relay     *proxy.Relay
	accepting sync.WaitGroup
	mounted   bool
	keep      bool // Config.KeepClients
}

// adopt serves the path in the relay's place.
func adopt(t *taken, keep bool) *orphanage {
	o := &orphanage{taken: t, keep: keep, relay: proxy.New(proxy.Options{Dial: t.dial, Probe: ourselves})}
	_ = t.lis.SetDeadline(time.Time{})
	o.accepting.Go(func() { o.relay.Accept(context.Background(), t.lis) })
	return o
}

// sendOff is for when the path is given back. If the server is down, nobody may
// connect any more: a path that answers keeps CRI-O from starting.
func (o *orphanage) sendOff(down bool, log *slog.Logger) {
	if !down {
		o.mounted = len(o.taken.mounted(log)) > 0
		time.Sleep(moment)
	}
	if !o.mounted {
		o.refuse()
	}
	if !o.keep && o.taken.place.answers() {
		o.relay.SendOff()
	}
}

func ourselves(pid uint32) bool { return int(pid) == os.Getpid() }

func (o *orphanage) refuse() {
	o.taken.refuse()
	o.accepting.Wait()
	for c := range proxy.Backlog(o.taken.lis) {
		o.relay.Begin(c)
	}
	_ = o.taken.lis.Close()
}

// finish serves while there is anybody to serve.
func (o *orphanage) finish(log *slog.Logger) {
	if o.mounted {
		o.taken.serveMounted(log)
		o.refuse()
	}
	o.relay.Drain(context.Background(), 0)
}
