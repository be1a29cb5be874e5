package mirror

import (
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// DefaultQueue is the queue's size in bytes.
	DefaultQueue = 2 << 20
	// controlRoom is the part of the queue that chunks leave free, so that a
	// full queue can still say which connections it blinded.
	controlRoom = 64 << 10
	// linger is how long the writer gathers before it writes: a system call and
	// a wake-up of the tap per chunk would cost the calls more than the copy, and
	// so does a timer that ends too often.
	linger = 50 * time.Millisecond
	// crowded is when who fills the queue no longer leaves it to the writer: one
	// write's worth, which is in the processor's cache still.
	crowded = writeAtMost
	// writeAtMost bounds one write, since room for more is made only after it:
	// a write of all that is queued would leave a burst no room to go on.
	writeAtMost = 128 << 10
	// maxOwed bounds the connections that are owed even their Open; what comes
	// beyond is summed up as missed.
	maxOwed = 1024
	// blindEvery is how often a blind connection's count is said again.
	blindEvery = time.Second
)

// Writer is the relay's end. Its methods, and those of the Conns it opens, may
// be called from any goroutine and never block on the tap.
type Writer struct {
	clock clock

	mu      sync.Mutex
	q       queue
	owed    []*Conn // connections with something left to say that did not fit
	blind   map[*Conn]struct{}
	missed  Event           // owed too, if its Count is not 0
	last    *Event          // owed too, after all others
	stopped bool            // no reader any more: count, keep nothing
	scratch []byte          // an event's head, built under mu
	raw     syscall.RawConn // where it is written to, if that is a socket; nil before

	leaving sync.Mutex    // held while bytes leave the queue; taken before mu
	waiting chan struct{} // the queue holds something
}

// NewWriter makes a writer with a queue of size bytes.
func NewWriter(size int) *Writer {
	return &Writer{
		clock:   newClock(),
		q:       queue{ring: make([]byte, max(size, 2*controlRoom))},
		blind:   map[*Conn]struct{}{},
		waiting: make(chan struct{}, 1),
	}
}

// Discard makes a writer for a relay that no tap reads: it counts and keeps
// nothing.
func Discard() *Writer {
	return &Writer{clock: newClock(), stopped: true, waiting: make(chan struct{}, 1)}
}

func (w *Writer) now() time.Time { return w.clock.now() }

// Hello must be the first event.
func (w *Writer) Hello(listen, upstream string) {
	w.say(&Event{Kind: KindHello, Hello: Hello{
		Version: Version, PID: uint32(os.Getpid()), Listen: listen, Upstream: upstream,
	}})
}

// Serving says that the path is bound. upstream is nil where a probe of the
// upstream was answered.
func (w *Writer) Serving(upstream error) {
	e := &Event{Kind: KindServing}
	if upstream != nil {
		e.Text = upstream.Error()
	}
	w.say(e)
}

// Away says that the path is not served for the moment, and why.
func (w *Writer) Away(why string) { w.say(&Event{Kind: KindAway, Text: why}) }

// Detached says that no more clients are accepted, and how many remain. It
// comes after everything that was owed by then.
func (w *Writer) Detached(remaining int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = &Event{Kind: KindDetached, At: w.now(), Count: uint32(remaining)}
	signal(w.waiting)
}

// Over says that nothing more is for this tap. It comes after everything that was
// owed by then.
func (w *Writer) Over() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last = &Event{Kind: KindOver, At: w.now()}
		signal(w.waiting)
	}
}

func (w *Writer) say(e *Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.At = w.now()
	w.put(e, nil)
}

// Open says that a client was accepted. id is the relay's own number for its
// connection, from 1, never used again.
func (w *Writer) Open(id uint64, p Peers) *Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.announce(&Conn{w: w, id: id, peers: p, opened: w.now()})
}

// Old says that a connection was open before the tap came.
func (w *Writer) Old(id uint64, p Peers, opened time.Time) *Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.announce(&Conn{w: w, id: id, peers: p, opened: w.clock.of(opened), old: true})
}

func (w *Writer) announce(c *Conn) *Conn {
	c.announced = w.put(c.openEvent(), nil)
	switch {
	case c.announced:
	case c.old:
		c.owe()
	default:
		c.unseen = len(w.owed) >= maxOwed
		c.goBlind(0)
	}
	return c
}

// put queues an event and its data if they fit. Called with mu held.
func (w *Writer) put(e *Event, data []byte) bool {
	if w.stopped {
		return false
	}
	w.scratch = appendEvent(w.scratch[:0], e, len(data))
	need := len(w.scratch) + len(data)
	if e.Kind == KindChunk {
		need += controlRoom
	}
	if need > w.q.free() {
		return false
	}
	before := w.q.used
	w.q.push(w.scratch, data)
	if before == 0 {
		signal(w.waiting)
	}
	return true
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// WriteTo writes events to out until a write fails or done is closed and all
// that was queued is written. After it returned, events are counted and
// dropped. It is to be called once.
func (w *Writer) WriteTo(out io.Writer, done <-chan struct{}) error {
	defer w.stop()
	if c, ok := out.(syscall.Conn); ok {
		raw, err := c.SyscallConn()
		if err != nil {
			return fmt.Errorf("write to the tap: %w", err)
		}
		w.mu.Lock()
		w.raw = raw
		w.mu.Unlock()
	}
	tick := time.NewTicker(blindEvery)
	defer tick.Stop()
	for {
		var last bool
		select {
		case <-w.waiting:
			w.gather(done)
		case <-tick.C:
			w.recount()
		case <-done:
			last = true
		}
		if err := w.drain(out); err != nil {
			return fmt.Errorf("write to the tap: %w", err)
		}
		if last {
			return nil
		}
	}
}

// gather waits for more to come, but not long.
func (w *Writer) gather(done <-chan struct{}) {
	t := time.NewTimer(linger)
	defer t.Stop()
	select {
	case <-t.C:
	case <-done:
	}
}

// settle queues what is owed, as far as it fits. Called with mu held.
func (w *Writer) settle() {
	for len(w.owed) > 0 && w.owed[0].settle() {
		w.owed[0].owed = false
		w.owed = w.owed[1:]
	}
	if len(w.owed) > 0 {
		return
	}
	w.owed = nil
	if w.missed.Count > 0 && w.put(&w.missed, nil) {
		w.missed = Event{}
	}
	if w.last != nil && w.put(w.last, nil) {
		w.last = nil
	}
}

// recount has every open blind connection say its count again, if it grew.
func (w *Writer) recount() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.blind {
		if c.totals.Dropped != c.saidDropped {
			c.owe()
		}
	}
}

func (w *Writer) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.q, w.owed, w.blind = queue{}, nil, nil
}
