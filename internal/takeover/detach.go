package takeover

import (
	"context"
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
	var mounted []Holder
	if r.held {
		r.place.surelyUndo(r.log, func() { r.mirror.Detached(len(r.engine.Clients())) })
		mounted = t.mounted(r.log)
		if len(mounted) == 0 {
			time.Sleep(moment)
			r.refuse()
		}
	}
	if !r.cfg.KeepClients {
		r.engine.SendOff()
	}
	r.guard.say(sayReleased)
	r.end()
	r.mirror.Detached(len(r.engine.Clients()))
	if len(mounted) > 0 {
		t.serveMounted(r.log)
		r.refuse()
	}
	r.engine.Drain(context.Background(), r.cfg.Drain)
}

// undoEvery is how often it is tried again to give a path back.
const undoEvery = time.Second

// surelyUndo tries until it is done. Until then the path is ours, and who
// listens there must go on: late is called, once, if that takes longer than one
// try.
func (p *Place) surelyUndo(log *slog.Logger, late func()) Result {
	for tried := 0; ; tried++ {
		result, err := p.Undo(false)
		if err == nil || p.moved() {
			return result
		}
		if tried == 0 {
			log.Error("its path can't be given back yet; it is served until it can", "cause", err)
			late()
		}
		time.Sleep(undoEvery)
	}
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
	if !o.keep {
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
