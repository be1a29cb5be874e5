// Package proxy is the relay: bytes from one socket to the other, unchanged,
// and a copy of them to the mirror.
//
// Its rules: one upstream connection per client connection; nothing is parsed;
// a half-close passes as a half-close; nothing that the tap does or fails to do
// is ever waited for. When the tap goes, the relay stops accepting, takes its
// path away and relays what it has to its end.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
)

// Config is what a relay is told.
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
// that remain to their end, closes tap, and returns.
func Run(ctx context.Context, cfg Config, tap *net.UnixConn) error {
	if cfg.Queue == 0 {
		cfg.Queue = mirror.DefaultQueue
	}
	r := &relay{cfg: cfg, mirror: mirror.NewWriter(cfg.Queue), conns: map[*conn]struct{}{}}
	r.mirror.Hello(cfg.Listen, cfg.Upstream)

	done := make(chan struct{})
	var watching, mirroring sync.WaitGroup
	mirroring.Go(func() { r.writeMirror(tap, done) })
	defer func() {
		// What is queued is for a tap that reads; one that hangs is not waited for.
		_ = tap.SetWriteDeadline(time.Now().Add(lastWords))
		close(done)
		mirroring.Wait()
		_ = tap.Close()
		watching.Wait()
	}()

	switch err := mirror.AwaitReady(tap); {
	case errors.Is(err, io.EOF):
		return nil // the tap thought better of it
	case err != nil:
		return err
	}
	lis, err := listen(cfg.Listen, cfg.Upstream)
	if err != nil {
		return err
	}
	if lis.is(cfg.Upstream) {
		lis.remove()
		_ = lis.Close()
		return fmt.Errorf("listen on %s: the upstream %s leads back to it; name the runtime's or driver's own socket", cfg.Listen, cfg.Upstream)
	}
	r.mirror.Serving(probe(cfg.Upstream))

	ctx, detach := context.WithCancel(ctx)
	defer detach()
	watching.Go(func() { watchTap(tap, detach) })
	watching.Go(func() { lis.imitateSoon(ctx, cfg.Upstream) })
	var accepting sync.WaitGroup
	accepting.Go(func() { r.accept(ctx, lis) })
	<-ctx.Done()

	lis.remove()
	_ = lis.SetDeadline(time.Now()) // ends accept
	accepting.Wait()
	// Who dialled before the path went is in the backlog: serve them too.
	for client := range lis.backlog() {
		r.begin(client)
	}
	_ = lis.Close()
	r.mirror.Detached(r.remaining())
	return r.drain()
}

const (
	// lastWords is how long a tap has to read what the relay still had to say.
	lastWords = time.Second
	// imitateEvery is how often an upstream that was not there is looked for,
	// for its mode and owner.
	imitateEvery = time.Second
)

// watchTap waits for the tap to close its side. The tap says nothing after its
// Ready, so any end of the read is its detach or its death.
func watchTap(tap io.Reader, detach func()) {
	_, _ = io.Copy(io.Discard, tap)
	detach()
}

func (r *relay) writeMirror(tap *net.UnixConn, done <-chan struct{}) {
	// An error means that the tap is gone; watchTap sees that too, and acts.
	_ = r.mirror.WriteTo(tap, done)
}

// relay holds the connections of one listening path.
type relay struct {
	cfg    Config
	mirror *mirror.Writer

	mu     sync.Mutex
	conns  map[*conn]struct{}
	active sync.WaitGroup
}

type acceptor interface {
	AcceptUnix() (*net.UnixConn, error)
}

// accept serves clients until the listener's deadline passes or it is closed.
// Any other error passes (descriptors or memory ran out), and clients must not
// wait for good in the backlog of a path that nobody accepts on.
func (r *relay) accept(ctx context.Context, lis acceptor) {
	var pause backoff
	for {
		client, err := lis.AcceptUnix()
		switch {
		case err == nil:
			pause = 0
			r.begin(client)
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return
		default:
			pause.wait(ctx)
		}
	}
}

// begin has a goroutine of its own serve one client to its end.
func (r *relay) begin(client *net.UnixConn) {
	c := &conn{client: client}
	r.mu.Lock()
	r.conns[c] = struct{}{}
	r.mu.Unlock()
	r.active.Go(func() {
		r.serve(c)
		r.mu.Lock()
		delete(r.conns, c)
		r.mu.Unlock()
	})
}

func (r *relay) remaining() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

func (r *relay) serve(c *conn) {
	peers := mirror.Peers{}
	peers.ClientPID, peers.ClientExe = peer(c.client)
	upstream, err := r.dial(c)
	if err != nil {
		// As without us: the client's connection fails at once. A dial that
		// had failed in its hands ends as an end of file here.
		m := r.mirror.Open(peers)
		c.abort("")
		m.Close(mirror.Refused + err.Error())
		return
	}
	peers.ServerPID, peers.ServerExe = peer(upstream)
	c.mirror = r.mirror.Open(peers)
	c.relay(upstream)
}

// dial connects to the upstream. While its backlog is full a dialler that
// blocks would wait in connect(2), and so does the relay, for as long as its
// client does.
func (r *relay) dial(c *conn) (*net.UnixConn, error) {
	var pause backoff
	for {
		upstream, err := dial(r.cfg.Upstream)
		if !errors.Is(err, unix.EAGAIN) || gone(c.client) {
			return upstream, err
		}
		pause.wait(context.Background())
	}
}

// backoff is a pause that doubles from 1 ms to 250 ms.
type backoff time.Duration

func (b *backoff) wait(ctx context.Context) {
	*b = min(max(2**b, backoff(time.Millisecond)), backoff(250*time.Millisecond))
	t := time.NewTimer(time.Duration(*b))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// drain waits for the connections that remain, at most cfg.Drain if that is set.
func (r *relay) drain() error {
	ended := make(chan struct{})
	go func() { r.active.Wait(); close(ended) }()
	var limit <-chan time.Time
	if r.cfg.Drain > 0 {
		t := time.NewTimer(r.cfg.Drain)
		defer t.Stop()
		limit = t.C
	}
	select {
	case <-ended:
	case <-limit:
		r.mu.Lock()
		for c := range r.conns {
			c.abort("cut off: --drain passed")
		}
		r.mu.Unlock()
		<-ended
	}
	return nil
}

// probe asks whether the upstream answers, by a connection without a byte.
func probe(path string) error {
	c, err := dial(path)
	if errors.Is(err, unix.EAGAIN) {
		return nil // it has more clients waiting than it takes: it is there
	}
	if err != nil {
		return err
	}
	return c.Close()
}

func dial(path string) (*net.UnixConn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", path, cause(err))
	}
	return c, nil
}

// cause is the system's own word within a net error, whose other words (the
// operation, the network, the path) our messages say better.
func cause(err error) error {
	var no unix.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}
