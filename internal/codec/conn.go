package codec

import (
	"iter"
	"slices"
	"time"
)

// Conn decodes one connection.
type Conn struct {
	limits  Limits
	buffers *Buffers
	ended   func(*Call)

	client, server half
	streams        map[uint32]*stream
	lastStream     uint32
	held           int // bytes that open calls keep
	heeded         int // open calls whose responses are
	overLimit      uint64
	gaveUp         *GaveUp

	// Follow, where it is set, is asked at the end of what is kept of an
	// uncompressed message, with that, for who is to be told the rest.
	Follow func(kept []byte) Rest
	// Began, where it is set, is told of a call once its request's first message is
	// there. What is known of the call is the codec's again when it returns.
	Began func(*Call)
	// Heed, where it is set, is asked at a response's headers who heeds its messages;
	// nil: nobody. A compressed one is not told.
	Heed func(*Call) Heeder
}

// NewConn makes a decoder that hands each call to ended when it is over. The
// Call, and all that it points to, is the codec's again when ended returns.
func NewConn(l Limits, b *Buffers, ended func(*Call)) *Conn {
	c := &Conn{limits: l, buffers: b, ended: ended, streams: map[uint32]*stream{}}
	c.client.init(c, Client)
	c.server.init(c, Server)
	return c
}

// Write takes the next bytes of one side. Its error is a *GaveUp, the same
// one from then on; by then the open calls were handed over as lost.
func (c *Conn) Write(s Side, at time.Time, p []byte) error {
	if c.gaveUp != nil {
		return c.gaveUp
	}
	if g := c.half(s).write(at, p); g != nil {
		return c.GiveUp(at, g)
	}
	return nil
}

// GiveUp ends decoding for a reason that the bytes do not show, such as a gap.
func (c *Conn) GiveUp(at time.Time, g *GaveUp) error {
	if c.gaveUp == nil {
		c.gaveUp = g
		c.loseAll(at, "lost sight of it: the connection "+g.Error())
		c.client, c.server = half{}, half{} // the tables may be large
	}
	return c.gaveUp
}

// End says that one side ended its writing.
func (c *Conn) End(s Side, at time.Time) {
	if s == Server {
		// No answer can come any more.
		c.loseAll(at, "the server closed the connection before the call ended")
	}
}

// Close says that the connection is over.
func (c *Conn) Close(at time.Time) {
	c.loseAll(at, "the connection was closed before the call ended")
}

// Running is the number of calls that have not ended.
func (c *Conn) Running() int { return len(c.streams) }

// Open are the paths of the calls that have not ended, in no order, and when each began.
func (c *Conn) Open() iter.Seq2[string, time.Time] {
	return func(yield func(string, time.Time) bool) {
		for _, s := range c.streams {
			if !yield(s.call.Path, s.call.Start) {
				return
			}
		}
	}
}

// OverLimit counts calls that passed undecoded because too many were open.
func (c *Conn) OverLimit() uint64 { return c.overLimit }

func (c *Conn) half(s Side) *half {
	if s == Client {
		return &c.client
	}
	return &c.server
}

// loseAll ends every open call without a code, the oldest first.
func (c *Conn) loseAll(at time.Time, how string) {
	c.loseAbove(at, 0, how)
}

func (c *Conn) loseAbove(at time.Time, id uint32, how string) {
	var lost []uint32
	for s := range c.streams {
		if s > id {
			lost = append(lost, s)
		}
	}
	slices.Sort(lost)
	for _, s := range lost {
		st := c.streams[s]
		st.call.Lost, st.call.Message = true, how
		c.finish(st, at)
	}
}

// finish hands a call over and forgets it.
func (c *Conn) finish(s *stream, at time.Time) {
	delete(c.streams, s.call.Stream)
	if s.back.heeder != nil {
		c.heeded--
	}
	s.call.End = at
	defer c.release(&s.call.Request, &s.call.Response) // also if ended panics
	c.ended(&s.call)
}

func (c *Conn) release(all ...*Messages) {
	for _, m := range all {
		for i := range m.First {
			c.held -= len(m.First[i].data)
			c.buffers.put(m.First[i].data)
			m.First[i].data = nil
		}
	}
}
