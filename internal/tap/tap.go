// Package tap reads the mirror, runs a decoder for each connection, completes
// each call by what identity knows, and hands the record to the sinks.
//
// Its rule: whatever happens to one connection's decoder, panics included,
// ends that decoder and nothing else; and whatever is not told is counted.
package tap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
	"github.com/grpc-tap/grpc-tap/internal/mirror"
)

// Config is what a tap is told.
type Config struct {
	// PayloadBytes bounds a request or a response as it is shown; 0: 2048.
	PayloadBytes int
	Policy       schema.Policy // what may be shown
	APIs         *schema.APIs  // nil: those that are known without a descriptor set
	Out          *Out          // shared by the taps of a node
	Log          *slog.Logger
	// Serving is called when the relay has bound its path, and again after each
	// Away; upstream says why the upstream does not answer yet, "" where it does.
	// May be nil.
	Serving func(h mirror.Hello, upstream string)
	// Away is called when the relay has no path for a while, and why. May be nil.
	Away func(h mirror.Hello, why string)
	// Redial asks the relay to have a connection's client dial anew. May be nil:
	// what can't be decoded stays so.
	Redial func(conn uint64)
	// NewDecoder is the test seam; nil: one of package codec.
	NewDecoder func(ended func(*codec.Call)) Decoder
}

// Decoder is what the tap needs of a connection's decoder.
type Decoder interface {
	Write(s codec.Side, at time.Time, p []byte) error
	GiveUp(at time.Time, g *codec.GaveUp) error
	End(s codec.Side, at time.Time)
	Close(at time.Time)
	Running() int
	Open() iter.Seq2[string, time.Time] // their paths, and when they began
	OverLimit() uint64
}

// keptBytes bounds the bytes of messages that all connections keep, in bytes.
const keptBytes = 32 << 20

// Tap is one reader of a mirror. Only what it can be asked, Stats and Now, may be
// asked from other goroutines.
type Tap struct {
	mu        sync.Mutex // held while an event is worked on
	cfg       Config
	log       *slog.Logger
	hello     mirror.Hello
	conns     map[uint64]*conn
	buffers   *codec.Buffers
	scratch   bytes.Buffer // for decompressing
	render    schema.Renderer
	stats     Stats
	dropped   uint64 // of connections that are closed
	noAnswers bool   // said that the upstream does not answer
	wall      mirror.Wall
	asked     map[uint32]asks // by process
}

// New makes a tap.
func New(cfg Config) *Tap {
	if cfg.PayloadBytes == 0 {
		cfg.PayloadBytes = 2048
	}
	t := &Tap{
		render: schema.Renderer{Policy: cfg.Policy},
		cfg:    cfg, log: cfg.Log, conns: map[uint64]*conn{}, asked: map[uint32]asks{},
		buffers: codec.NewBuffers(keptBytes),
		stats:   Stats{GaveUp: map[string]uint64{overflow.Token: 0}},
	}
	return t
}

// decoder is that of a connection.
func (t *Tap) decoder(c *conn) Decoder {
	ended := func(k *codec.Call) { t.finished(c, k) }
	if t.cfg.NewDecoder != nil {
		return t.cfg.NewDecoder(ended)
	}
	d := codec.NewConn(codec.DefaultLimits(), t.buffers, ended)
	d.Follow = func(kept []byte) codec.Rest { return schema.Follow(kept) }
	d.Began = func(k *codec.Call) { t.began(c, k) }
	d.Heed = t.heed
	return d
}

// ErrRelayGone says that the mirror ended without a Detached: the relay died.
var ErrRelayGone = errors.New("the relay is gone")

// ErrOver says that the relay goes on without this tap, which has left or reads no
// more since another does. Calls that are open then are not told.
var ErrOver = errors.New("the relay goes on without this tap")

// Run reads the mirror until the relay has detached, and may be called again then:
// the connections that remain are mirrored to their end. It returns ErrRelayGone
// where the stream ends before. Calls that are open then were cut with the relay:
// they are told as lost.
func (t *Tap) Run(r *mirror.Reader, h mirror.Hello) error {
	t.hello = h
	var last time.Time
	for {
		e, err := r.Next()
		if err != nil {
			t.working(func() { t.lose(last) })
		} else {
			last = e.At
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return ErrRelayGone
		case err != nil:
			return fmt.Errorf("read the mirror: %w", err)
		case e.Kind == mirror.KindServing:
			t.noAnswers = e.Text != ""
			if t.cfg.Serving != nil {
				t.cfg.Serving(h, e.Text)
			}
		case e.Kind == mirror.KindAway:
			if t.cfg.Away != nil {
				t.cfg.Away(h, e.Text)
			}
		case e.Kind == mirror.KindDetached:
			t.working(func() { t.stats.Remaining = int(e.Count) })
			return nil
		case e.Kind == mirror.KindOver:
			return ErrOver
		case e.Kind == mirror.KindMissed:
			t.working(func() { t.missed(&e) })
		default:
			t.working(func() { t.event(&e) })
		}
	}
}

// working keeps those who ask out while f changes what they ask for.
func (t *Tap) working(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

// lose closes every connection that is open.
func (t *Tap) lose(at time.Time) {
	for _, id := range slices.Sorted(maps.Keys(t.conns)) {
		t.close(t.conns[id], &mirror.Event{At: at, Conn: id, Totals: mirror.Totals{Dropped: t.conns[id].dropped}})
	}
}

func (t *Tap) event(e *mirror.Event) {
	switch e.Kind {
	case mirror.KindOpen:
		t.open(e)
		return
	case mirror.KindOld:
		t.old(e)
		return
	}
	c := t.conns[e.Conn]
	if c == nil {
		return // only a relay that is not ours would speak of it
	}
	switch e.Kind {
	case mirror.KindChunk:
		if t.noAnswers && e.Dir == mirror.FromServer {
			t.noAnswers = false
			t.log.Info("the upstream answers", "upstream", t.hello.Upstream)
		}
		t.guard(c, e, func() error { return c.decoder.Write(side(e.Dir), e.At, e.Data) })
	case mirror.KindEnd:
		t.guard(c, e, func() error { c.decoder.End(side(e.Dir), e.At); return nil })
	case mirror.KindBlind:
		c.dropped = e.Totals.Dropped
		t.giveUp(c, e.At, overflow)
		t.resync(c, e.At)
	case mirror.KindClose:
		t.close(c, e)
	}
}

// overflow is what the relay says when its queue was full.
var overflow = &codec.GaveUp{Token: "mirror_overflow"}

func side(d mirror.Dir) codec.Side {
	if d == mirror.FromServer {
		return codec.Server
	}
	return codec.Client
}

func (t *Tap) open(e *mirror.Event) {
	c := &conn{id: e.Conn, peers: e.Peers}
	c.decoder = t.decoder(c)
	t.conns[e.Conn] = c
	t.stats.Connections++
}

// old is of a connection whose beginning nobody has seen.
func (t *Tap) old(e *mirror.Event) {
	t.open(e)
	t.stats.Old++
	c := t.conns[e.Conn]
	c.gaveUp = true
	t.log.Info("a connection is older than this tap: it is relayed, but its calls are not seen until the client dials anew",
		"connection", c.id, "caller", filepath.Base(c.peers.ClientExe), "pid", c.peers.ClientPID)
	t.redial(c)
}

// A process is asked to dial anew at most so often within askWithin because its
// connections did not fit the queue, for the next may not either. The kubelet has
// two to a runtime.
const (
	askAtMost = 4
	askWithin = time.Minute
	maxAsked  = 1024 // processes remembered
)

// asks are how often a process was asked since first.
type asks struct {
	first time.Time
	n     int
}

// resync has a connection that went blind dialled anew, now or at a later event of
// its blindness, which comes again while bytes pass.
func (t *Tap) resync(c *conn, at time.Time) {
	pid := c.peers.ClientPID
	a := t.asked[pid]
	if at.Sub(a.first) > askWithin {
		a = asks{first: at}
	}
	if c.asked || a.n == askAtMost {
		return
	}
	if len(t.asked) == maxAsked {
		clear(t.asked)
	}
	a.n++
	t.asked[pid] = a
	c.asked = true
	t.redial(c)
}

func (t *Tap) redial(c *conn) {
	if t.cfg.Redial != nil {
		t.cfg.Redial(c.id)
	}
}

func (t *Tap) close(c *conn, e *mirror.Event) {
	t.guard(c, e, func() error { c.decoder.Close(e.At); return nil })
	t.dropped += e.Totals.Dropped
	t.stats.OverLimit += c.decoder.OverLimit()
	delete(t.conns, c.id)
	cause, refused := strings.CutPrefix(e.Text, mirror.Refused)
	switch {
	case refused:
		t.stats.Refused++
		if !t.noAnswers {
			t.noAnswers = true
			t.log.Warn("the upstream does not answer; clients are closed at once until it does", "upstream", t.hello.Upstream, "cause", cause)
		}
	case e.Text != "":
		t.log.Warn("a connection was cut", "connection", e.Conn, "cause", e.Text)
	}
}

// conn is one relayed connection.
type conn struct {
	id      uint64
	peers   mirror.Peers
	decoder Decoder
	gaveUp  bool
	opaque  bool // it spoke no HTTP/2, and so gave up
	asked   bool // its client, to dial anew
	dropped uint64
}

// guard runs a step of c's decoder: an error or a panic ends that decoder.
func (t *Tap) guard(c *conn, e *mirror.Event, step func() error) {
	if c.gaveUp {
		return
	}
	if g, ok := errors.AsType[*codec.GaveUp](t.survive(c, step)); ok {
		t.giveUp(c, e.At, g)
	}
}

// survive makes a panic an error.
func (t *Tap) survive(c *conn, step func() error) (err error) {
	defer func() {
		if recover() != nil {
			t.log.Debug("a decoder panicked", "connection", c.id, "stack", stack())
			err = &codec.GaveUp{Token: "panic"}
		}
	}()
	return step()
}

// giveUp counts and says, once a connection, that c is decoded no further, and
// tells its open calls as lost.
func (t *Tap) giveUp(c *conn, at time.Time, g *codec.GaveUp) {
	if c.gaveUp {
		return
	}
	c.gaveUp = true
	_ = t.survive(c, func() error { return c.decoder.GiveUp(at, g) })
	t.stats.GaveUp[g.Token]++
	who := []any{"connection", c.id, "caller", filepath.Base(c.peers.ClientExe), "pid", c.peers.ClientPID, "reason", g.Token}
	if c.opaque = g.Opaque; c.opaque {
		t.stats.Opaque++
		t.log.Info("a connection does not speak gRPC; it is relayed and not decoded", who...)
		return
	}
	t.stats.Blind++
	t.log.Warn("a connection is blind from here on: it is relayed, but its calls are not seen until the client dials anew", who...)
}

// missed is of connections that came and went unseen.
func (t *Tap) missed(e *mirror.Event) {
	t.stats.Connections += uint64(e.Count)
	t.stats.Blind += uint64(e.Count)
	t.stats.GaveUp[overflow.Token] += uint64(e.Count)
	t.dropped += e.Totals.Dropped
	t.log.Warn("connections came and went unseen: they were relayed, but not decoded", "connections", e.Count, "reason", overflow.Token)
}

// began has a call learned from that has only begun: it names its pod long before
// it ends, and while it runs a pod is still starting.
func (t *Tap) began(c *conn, k *codec.Call) {
	service, method := splitPath(k.Path)
	if !t.cfg.Out.follows(service, method) {
		return
	}
	m := t.cfg.APIs.Lookup(service, method)
	r := &call.Record{
		Start: t.wall.Of(k.Start), State: call.Running, Service: service, Method: method,
		Socket: t.hello.Listen, Connection: c.id, Stream: k.Stream,
	}
	t.cfg.Out.began(r, m.Facts(first(t.kept(&k.Request)), nil))
}

// heed has what a response lists learned from as it passes.
func (t *Tap) heed(k *codec.Call) codec.Heeder {
	m := t.cfg.APIs.Lookup(splitPath(k.Path))
	if !m.Lists() {
		return nil
	}
	asked := m.Facts(first(t.kept(&k.Request)), nil)
	return m.Listing(func(e *schema.Listed) { t.cfg.Out.Listed(e, asked) })
}

func (t *Tap) finished(c *conn, k *codec.Call) {
	r, facts := t.record(c, k)
	t.stats.Calls++
	t.cfg.Out.ended(r, facts)
}
