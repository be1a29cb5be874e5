package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config is what a relay that serves a path of its own is told.
type Config struct {
	Listen   string // path to serve
	Upstream string // path to dial
	// Drain bounds how long connections may outlive a detach; 0: no bound.
	Drain time.Duration
	// Queue is the mirror queue's size in bytes; 0: mirror.DefaultQueue.
	Queue int
}

// Run serves cfg.Listen from when the tap says that it reads until the tap
// closes its side or ctx is done; then it detaches, relays the connections
// that remain to their end, closes tap, and returns. It sends no client off:
// one that dialled anew would find no path.
func Run(ctx context.Context, cfg Config, tap *net.UnixConn) error {
	r := New(Options{Dial: func() (*net.UnixConn, error) { return Dial(cfg.Upstream) }})
	a := NewAudience(r, cfg.Listen, cfg.Upstream, r.Redial)
	a.queue = cmp.Or(cfg.Queue, a.queue)
	t, err := a.Admit(tap)
	switch {
	case errors.Is(err, io.EOF):
		return nil // the tap thought better of it
	case err != nil:
		return err
	}
	attached, detach := context.WithCancel(ctx)
	var meanwhile sync.WaitGroup
	defer meanwhile.Wait()
	defer detach()
	defer a.Leave(t)
	meanwhile.Go(func() { a.Hear(t); detach() })
	lis, err := listen(cfg.Listen, cfg.Upstream)
	if err != nil {
		return err
	}
	if lis.is(cfg.Upstream) {
		lis.remove()
		_ = lis.Close()
		return fmt.Errorf("listen on %s: the upstream %s leads back to it; name the runtime's or driver's own socket", cfg.Listen, cfg.Upstream)
	}
	a.Serving(Probe(cfg.Upstream))
	meanwhile.Go(func() { lis.imitateSoon(attached, cfg.Upstream) })
	r.serveWhile(attached, lis)
	a.Detached(len(r.Clients()))
	r.Drain(context.WithoutCancel(ctx), cfg.Drain)
	return nil
}

// serveWhile accepts until ctx is done, and takes the path away then.
func (r *Relay) serveWhile(ctx context.Context, lis *listener) {
	var accepting sync.WaitGroup
	accepting.Go(func() { r.Accept(ctx, lis.UnixListener) })
	<-ctx.Done()
	lis.remove()
	_ = lis.SetDeadline(time.Now()) // ends Accept
	accepting.Wait()
	// Who dialled before the path went is in the backlog: serve them too.
	for client := range Backlog(lis.UnixListener) {
		r.Begin(client)
	}
	_ = lis.Close()
}

// imitateEvery is how often an upstream that was not there is looked for, for
// its mode and owner.
const imitateEvery = time.Second

// Probe asks whether an upstream answers, by a connection without a byte.
func Probe(path string) error {
	c, err := Dial(path)
	if errors.Is(err, unix.EAGAIN) {
		return nil // it has more clients waiting than it takes: it is there
	}
	if err != nil {
		return err
	}
	return c.Close()
}
