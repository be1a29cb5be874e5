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
	"sync"
	"syscall"
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

	if err := mirror.AwaitReady(tap); err != nil {
		return err
	}
	lis, err := listen(cfg.Listen, cfg.Upstream)
	if err != nil {
		return err
	}
	r.mirror.Serving(probe(cfg.Upstream))

	ctx, detach := context.WithCancel(ctx)
	defer detach()
	watching.Go(func() { watchTap(tap, detach) })
	var accepting sync.WaitGroup
	accepting.Go(func() { r.accept(lis) })
	<-ctx.Done()

	lis.remove()
	// Who dialled before the path went is in the backlog: serve them too.
	_ = lis.SetDeadline(time.Now().Add(lastAccepts))
	accepting.Wait()
	_ = lis.Close()
	r.mirror.Detached()
	return r.drain()
}

const (
	// lastAccepts is for clients that dialled just before the path went.
	lastAccepts = 20 * time.Millisecond
	// lastWords is how long a tap has to read what the relay still had to say.
	lastWords = time.Second
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

// accept serves clients until the listener's deadline passes or it is closed.
func (r *relay) accept(lis *listener) {
	pause := time.Duration(0)
	for {
		client, err := lis.AcceptUnix()
		if err == nil {
			pause = 0
			r.active.Go(func() { r.serve(client) })
			continue
		}
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) && !errors.Is(err, syscall.ENOMEM) && !errors.Is(err, syscall.ECONNABORTED) {
			return
		}
		// Out of descriptors: connections that end will free some.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		time.Sleep(pause)
	}
}

// serve relays one client to its end.
func (r *relay) serve(client *net.UnixConn) {
	peers := mirror.Peers{}
	peers.ClientPID, peers.ClientExe = peer(client)
	upstream, err := dial(r.cfg.Upstream)
	if err != nil {
		// As without us: the client's connection fails at once. A dial that
		// had failed in its hands ends as an end of file here.
		c := r.mirror.Open(peers)
		_ = client.Close()
		c.Close("upstream: " + err.Error())
		return
	}
	peers.ServerPID, peers.ServerExe = peer(upstream)
	c := &conn{client: client, upstream: upstream, mirror: r.mirror.Open(peers)}
	r.mu.Lock()
	r.conns[c] = struct{}{}
	r.mu.Unlock()
	c.relay()
	r.mu.Lock()
	delete(r.conns, c)
	r.mu.Unlock()
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
