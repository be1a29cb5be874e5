package mirror

import "time"

// Conn is a relayed connection at the relay's end of the mirror.
type Conn struct {
	w      *Writer
	id     uint64
	peers  Peers
	opened time.Time

	// All below is guarded by w.mu.
	old         bool // it was open before the tap came: never mirrored, and not for want of room
	announced   bool // Open was queued
	unseen      bool // and never will be: too many are owed theirs
	blind       bool // a chunk was dropped: none may follow
	saidDropped uint64
	saidBlind   bool
	closed      bool
	closedAt    time.Time
	reason      string
	owed        bool // is in w.owed
	totals      Totals
}

// Chunk mirrors bytes that were read in one direction. It copies p. To keep
// cause before effect, call it before the bytes are passed on.
func (c *Conn) Chunk(d Dir, p []byte) {
	if c.chunk(d, p) {
		c.w.help()
	}
}

// chunk says whether the queue is crowded.
func (c *Conn) chunk(d Dir, p []byte) (crowd bool) {
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if d == FromClient {
		c.totals.FromClient += uint64(len(p))
	} else {
		c.totals.FromServer += uint64(len(p))
	}
	if c.old {
		return false
	}
	if c.blind {
		c.totals.Dropped += uint64(len(p))
		return false
	}
	if !w.put(&Event{Kind: KindChunk, Conn: c.id, At: w.now(), Dir: d}, p) {
		c.goBlind(len(p))
	}
	return w.raw != nil && w.q.used >= crowded
}

// End says that no more bytes come from this side.
func (c *Conn) End(d Dir) {
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if !c.old && !c.blind && !w.put(&Event{Kind: KindEnd, Conn: c.id, At: w.now(), Dir: d}, nil) {
		c.goBlind(0)
	}
}

// Close says that the connection is over, and why if in no ordinary way. It
// is the last call on c.
func (c *Conn) Close(reason string) {
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	c.closed, c.closedAt, c.reason = true, w.now(), reason
	delete(w.blind, c)
	if c.unseen {
		m := &w.missed
		m.Kind, m.At = KindMissed, c.closedAt
		m.Count++
		m.Totals.FromClient += c.totals.FromClient
		m.Totals.FromServer += c.totals.FromServer
		m.Totals.Dropped += c.totals.Dropped
		return
	}
	c.owe()
	w.settle()
}

// goBlind gives up mirroring c; what it has to say of that is owed.
func (c *Conn) goBlind(dropped int) {
	c.blind = true
	c.totals.Dropped += uint64(dropped)
	if c.unseen || c.w.stopped {
		return
	}
	c.w.blind[c] = struct{}{}
	c.owe()
}

func (c *Conn) owe() {
	if c.owed || c.w.stopped {
		return
	}
	c.owed = true
	c.w.owed = append(c.w.owed, c)
	signal(c.w.waiting)
}

// settle queues what c has left to say, in order; false: not all of it fitted.
func (c *Conn) settle() bool {
	w := c.w
	if !c.announced {
		if !w.put(c.openEvent(), nil) {
			return false
		}
		c.announced = true
	}
	if c.blind && (!c.saidBlind || c.saidDropped != c.totals.Dropped) {
		if !w.put(&Event{Kind: KindBlind, Conn: c.id, At: w.now(), Totals: c.totals}, nil) {
			return false
		}
		c.saidBlind, c.saidDropped = true, c.totals.Dropped
	}
	if c.closed {
		return w.put(&Event{Kind: KindClose, Conn: c.id, At: c.closedAt, Totals: c.totals, Text: c.reason}, nil)
	}
	return true
}

func (c *Conn) openEvent() *Event {
	e := &Event{Kind: KindOpen, Conn: c.id, At: c.opened, Peers: c.peers}
	if c.old {
		e.Kind = KindOld
	}
	return e
}
