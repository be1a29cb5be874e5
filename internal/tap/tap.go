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
	"slices"
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
