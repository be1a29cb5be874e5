// Package proxy is the relay: bytes from one socket to the other, unchanged,
// and a copy of them to the mirror.
//
// Its rules: one upstream connection per client connection; a half-close passes
// as a half-close; nothing that the tap does or fails to do is ever waited for.
// Nothing is parsed but the frame headers toward the client, for the one frame
// that is ever inserted: goaway.go says which, and when.
package proxy

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
)

// Options is what a Relay is made of. All but Dial may be left out.
type Options struct {
	// Dial makes a connection to the upstream. After EAGAIN (its backlog is
	// full) it is asked again for as long as the client waits.
	Dial func() (*net.UnixConn, error)
	// Mirror is told everything, until SetMirror names another.
	Mirror *mirror.Writer
	// Moved counts the bytes relayed, both directions together. It is only ever
	// added to, so it may lie in memory that processes share.
	Moved *atomic.Uint64
	// Probe says whether a process is a client that only asks whether we accept.
	// It is closed at once, neither mirrored nor dialled for.
	Probe func(pid uint32) bool
	// Lost is told of an upstream that ended a connection before its client did,
	// or could not be dialled. It may not block.
	Lost func()
}

// Client is who dialled a connection.
type Client struct {
	PID  uint32
	Exe  string
	Kept bool // is not sent off, whatever SendOff is called for
}

// Relay carries connections to one upstream, each to its end.
type Relay struct {
	opts Options

	mu       sync.Mutex
	mirror   *mirror.Writer
	conns    map[uint64]*conn
	number   uint64              // of the connection that was the last to begin
	none     chan struct{}       // somebody waits for conns to be empty
	sendsOff bool                // SendOff was called
	told     map[uint32]struct{} // processes that were sent off
}

// New makes a relay without connections.
func New(o Options) *Relay {
	if o.Mirror == nil {
		o.Mirror = mirror.Discard()
	}
	if o.Moved == nil {
		o.Moved = new(atomic.Uint64)
	}
	if o.Probe == nil {
		o.Probe = func(uint32) bool { return false }
	}
	if o.Lost == nil {
		o.Lost = func() {}
	}
	return &Relay{opts: o, mirror: o.Mirror, conns: map[uint64]*conn{}, told: map[uint32]struct{}{}}
}

type acceptor interface {
	AcceptUnix() (*net.UnixConn, error)
}

// Accept serves clients until the listener's deadline passes or it is closed.
// Any other error passes (descriptors or memory ran out), and clients must not
// wait for good in the backlog of a path that nobody accepts on. ctx ends the
// pause after such an error, and nothing else.
func (r *Relay) Accept(ctx context.Context, lis *net.UnixListener) { r.accept(ctx, lis) }

func (r *Relay) accept(ctx context.Context, lis acceptor) {
	var pause backoff
	for {
		client, err := lis.AcceptUnix()
		switch {
		case err == nil:
			pause = 0
			r.Begin(client)
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return
		default:
			pause.wait(ctx)
		}
	}
}

// Begin has a goroutine of its own serve one client to its end.
func (r *Relay) Begin(client *net.UnixConn) {
	pid := peerPID(client)
	if r.opts.Probe(pid) {
		_ = client.Close()
		return
	}
	exe := executable(pid)
	c := &conn{Options: &r.opts, client: client, who: Client{PID: pid, Exe: exe, Kept: Keeps(exe)}}
	r.mu.Lock()
	c.who.Kept = c.who.Kept || r.sendsOff && !r.mayTell(pid)
	c.out = toClient{client: client, told: func() { r.tells(pid) }, asked: r.sendsOff}
	c.out.frames.over = c.who.Kept
	r.number++
	c.number = r.number
	r.conns[c.number] = c
	r.mu.Unlock()
	go r.run(c)
}

func (r *Relay) run(c *conn) {
	reason := r.serve(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c.number)
	c.mirror.Load().Close(reason) // by now no other mirror is told of it
	if len(r.conns) == 0 && r.none != nil {
		close(r.none)
		r.none = nil
	}
}

// serve returns why it ended, if in no ordinary way.
func (r *Relay) serve(c *conn) (reason string) {
	upstream, err := r.dial(c)
	peers := mirror.Peers{ClientPID: c.who.PID, ClientExe: c.who.Exe}
	if err != nil {
		// As without us: the client's connection fails at once. A dial that
		// had failed in its hands ends as an end of file here.
		r.open(c, peers)
		c.abort("")
		return mirror.Refused + err.Error()
	}
	peers.ServerPID, peers.ServerExe = Peer(upstream)
	r.open(c, peers)
	return c.relay(upstream)
}

// open tells the mirror of a connection that begins.
func (r *Relay) open(c *conn, peers mirror.Peers) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.peers, c.opened = peers, time.Now()
	c.mirror.Store(r.mirror.Open(c.number, peers))
}

// SetMirror has another mirror told everything from now on: of the connections
// that are open, that they are, and how they end. Their bytes are no use to it.
func (r *Relay) SetMirror(w *mirror.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mirror = w
	for _, n := range slices.Sorted(maps.Keys(r.conns)) {
		if c := r.conns[n]; c.mirror.Load() != nil {
			c.mirror.Store(w.Old(n, c.peers, c.opened))
		}
	}
}

// dial connects to the upstream. While its backlog is full a dialler that
// blocks would wait in connect(2), and so does the relay, for as long as its
// client does.
func (r *Relay) dial(c *conn) (*net.UnixConn, error) {
	var pause backoff
	for {
		upstream, err := r.opts.Dial()
		switch {
		case err == nil:
			return upstream, nil
		case !errors.Is(err, unix.EAGAIN):
			r.opts.Lost()
			return nil, err
		case gone(c.client):
			return nil, err
		}
		pause.wait(context.Background())
	}
}

// Clients are those whose connections are open now, in no order.
func (r *Relay) Clients() []Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Client, 0, len(r.conns))
	for _, c := range r.conns {
		all = append(all, c.who)
	}
	return all
}

// SendOff asks every client that is not to be kept to dial anew, by one GOAWAY:
// each as soon as it can be told, and those too that begin from now on, but for
// who was told and came back. It is for a relay that the path no longer leads
// to; it does not wait.
func (r *Relay) SendOff() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sendsOff {
		return
	}
	r.sendsOff = true
	for _, c := range r.conns {
		if !c.who.Kept {
			// It may have to wait, for a client that has no room. It ends with c.
			go c.sendOff()
		}
	}
}

// Redial asks the client of one connection to dial anew, by a GOAWAY, as soon as
// it can be told. One that is to be kept is not asked, and none twice: a client
// that has no room would have each asking wait.
func (r *Relay) Redial(number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.conns[number]; c != nil && !c.who.Kept && !c.asked {
		c.asked = true
		go c.sendOff()
	}
}

// maxTold bounds the processes that are remembered.
const maxTold = 1024

// mayTell says whether a process may be told on a connection that began after
// SendOff. One that was told and comes again cannot leave (it has the old socket
// mounted): told each time, it would come back without end, and its calls with
// it. Called with mu held.
func (r *Relay) mayTell(pid uint32) bool {
	_, again := r.told[pid]
	return !again && len(r.told) < maxTold
}

func (r *Relay) tells(pid uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sendsOff && len(r.told) < maxTold {
		r.told[pid] = struct{}{}
	}
}

// Drain waits for all connections to end, and cuts them off after limit, if
// that is not 0. It returns when none is left, or ctx is done. It is for when no
// more begin.
func (r *Relay) Drain(ctx context.Context, limit time.Duration) {
	var cut <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		cut = t.C
	}
	ended := r.ended()
	for {
		select {
		case <-ended:
			return
		case <-ctx.Done():
			return
		case <-cut:
			r.cutOff()
		}
	}
}

// ended is closed when there is no connection.
func (r *Relay) ended() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.none == nil {
		r.none = make(chan struct{})
	}
	none := r.none
	if len(r.conns) == 0 {
		close(none)
		r.none = nil
	}
	return none
}

func (r *Relay) cutOff() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.abort("cut off: --drain passed")
	}
}
