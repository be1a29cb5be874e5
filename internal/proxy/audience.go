package proxy

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
)

// Audience is the taps of one relay.
//
// Its rules: one reads, and that is the newest; for who read before it, it is
// over. When the reader leaves, the one that came last of those that
// stand by reads. A tap that begins to read is told how the path stands, and of
// the connections that it came too late for.
type Audience struct {
	relay            *Relay
	listen, upstream string
	queue            int
	redial           func(number uint64) // what a tap's asking does

	mu      sync.Mutex
	reader  *Tap // nil: nobody reads
	standby []*Tap
	stands  func(*mirror.Writer) // says how the path stands; nil: it was not served yet
	since   time.Time            // when the last reader left
	closed  bool

	changed chan struct{}
}

// NewAudience is the empty audience of a relay that serves listen. redial is asked
// by taps for connections that they cannot decode.
func NewAudience(r *Relay, listen, upstream string, redial func(number uint64)) *Audience {
	return &Audience{
		relay: r, listen: listen, upstream: upstream, redial: redial, queue: mirror.DefaultQueue,
		since: time.Now(), changed: make(chan struct{}, 1),
	}
}

// Changed receives when a first tap has sat down, or the last has left.
func (a *Audience) Changed() <-chan struct{} { return a.changed }

// Reading says whether a tap reads, and since when none does.
func (a *Audience) Reading() (reads bool, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reader != nil, a.since
}

// errHandOver is of a connection that is no tap's.
var errHandOver = errors.New("a relay that takes our place")

// Admit waits for a tap to say that it reads, and seats it. It takes conn over,
// unless the error is errHandOver. The error wraps io.EOF where the tap thought
// better of it.
func (a *Audience) Admit(conn *net.UnixConn) (*Tap, error) {
	t := newTap(conn, a.queue)
	t.Mirror.Hello(a.listen, a.upstream)
	seat, err := mirror.AwaitReady(conn)
	switch {
	case err == nil && seat == mirror.HandOver:
		t.flush()
		_ = conn.SetDeadline(time.Time{})
		return nil, errHandOver
	case err == nil && !a.sit(t, seat):
		err = os.ErrClosed
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// sit says false where the audience is closed.
func (a *Audience) sit(t *Tap, seat mirror.Seat) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	if a.reader != nil && seat == mirror.StandBy {
		a.standby = append(a.standby, t)
		return true
	}
	old := a.reader
	a.read(t)
	if old != nil {
		old.Mirror.Over()
		old.dismiss()
	}
	return true
}

// read is called with mu held.
func (a *Audience) read(t *Tap) {
	a.reader = t
	if a.stands != nil {
		a.stands(t.Mirror)
	}
	a.relay.SetMirror(t.Mirror)
	signal(a.changed)
}

// Hear acts on what a tap asks for, until it closes its side, or leaves.
func (a *Audience) Hear(t *Tap) { mirror.HearAsks(t.conn, a.redial) }

// Leave says to a tap what is left to say, and lets it go.
func (a *Audience) Leave(t *Tap) {
	t.dismiss()
	a.rise(t)
	t.Mirror.Over()
	t.close()
}

func (a *Audience) rise(t *Tap) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.standby = slices.DeleteFunc(a.standby, func(s *Tap) bool { return s == t })
	if a.reader != t {
		return
	}
	if last := len(a.standby) - 1; last >= 0 && !a.closed {
		next := a.standby[last]
		a.standby = a.standby[:last]
		a.read(next)
		return
	}
	a.reader, a.since = nil, time.Now()
	a.relay.SetMirror(mirror.Discard())
	signal(a.changed)
}

// Serving says that the path is served. upstream is nil where the upstream
// answers.
func (a *Audience) Serving(upstream error) {
	a.say(func(w *mirror.Writer) { w.Serving(upstream) })
}

// Away says that the path is not served for the moment, and why.
func (a *Audience) Away(why string) { a.say(func(w *mirror.Writer) { w.Away(why) }) }

// say has what the path's state is said now, and to each tap that comes.
func (a *Audience) say(stands func(*mirror.Writer)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stands = stands
	if a.reader != nil {
		stands(a.reader.Mirror)
	}
}

// Detached says that no more clients are accepted, and how many remain: also to
// who comes just now.
func (a *Audience) Detached(remaining int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stands = func(w *mirror.Writer) { w.Detached(remaining) }
	if a.reader != nil {
		a.reader.Mirror.Detached(remaining)
	}
	for _, t := range a.standby {
		t.Mirror.Detached(remaining)
	}
}

// Close seats nobody any more, and has who hears each tap return.
func (a *Audience) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for _, t := range a.standby {
		t.dismiss()
	}
	if a.reader != nil {
		a.reader.dismiss()
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
