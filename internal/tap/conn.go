package tap

import (
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/codec"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
	"github.com/grpc-tap/grpc-tap/internal/mirror"
)

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

// overflow is what the relay says when its queue was full.
var overflow = &codec.GaveUp{Token: "mirror_overflow"}

func side(d mirror.Dir) codec.Side {
	if d == mirror.FromServer {
		return codec.Server
	}
	return codec.Client
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
