package tap

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// Sink takes finished records, in order, as many at a time as there are. The
// slice is the caller's again when Records returns, and a record is shared by
// all sinks: none may change it.
type Sink interface {
	Records([]*call.Record)
}

// Queue stands between the decoder and a sink that may be slow: bounded, and
// when it is full the record is dropped for that sink alone, and counted.
type Queue struct {
	Name string
	size int

	mu      sync.Mutex
	waiting []*call.Record
	inHand  int // taken out of waiting, and not through the sink yet
	dropped uint64

	some, half   chan struct{} // so much is waiting now
	closed, done chan struct{}
}

const (
	// QueueSize is the number of records that wait for one sink. A record with
	// payloads as shown is about 5 KB, and 50 at the very worst: 20 MB, or 200.
	QueueSize = 4096
	// linger is how long a queue gathers records before its sink gets them: to
	// wake a sink costs more than what it does with a record.
	linger = 50 * time.Millisecond
	// atOnce bounds what a sink is given at a time. If the end comes before the
	// sink is done with that, all of it counts as dropped.
	atOnce = 128
)

// NewQueue starts a queue in front of sink.
func NewQueue(name string, sink Sink, size int) *Queue {
	q := &Queue{
		Name: name, size: size, some: make(chan struct{}, 1), half: make(chan struct{}, 1),
		closed: make(chan struct{}), done: make(chan struct{}),
	}
	go q.deliver(sink)
	return q
}

func (q *Queue) deliver(sink Sink) {
	defer close(q.done)
	var taken []*call.Record
	for last := false; !last; {
		last = q.gather()
		taken = q.take(taken)
		for part := range slices.Chunk(taken, atOnce) {
			sink.Records(part)
			q.through(len(part))
		}
	}
}

// gather waits for records, and then a little for more. It says whether the
// queue is closed: what waits then is the last.
func (q *Queue) gather() (last bool) {
	select {
	case <-q.some:
	case <-q.closed:
		return true
	}
	t := time.NewTimer(linger)
	defer t.Stop()
	select {
	case <-t.C:
	case <-q.half:
	case <-q.closed:
	}
	return false
}

// take takes all that waits, and gives back a slice for more.
func (q *Queue) take(empty []*call.Record) []*call.Record {
	clear(empty)
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.waiting
	q.waiting, q.inHand = empty[:0], len(taken)
	return taken
}

func (q *Queue) through(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inHand -= n
}

func (q *Queue) put(r *call.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting)+q.inHand >= q.size {
		q.dropped++
		return
	}
	q.waiting = append(q.waiting, r)
	switch len(q.waiting) {
	case 1:
		signal(q.some)
	case q.size / 2:
		signal(q.half)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Dropped counts records that found the queue full.
func (q *Queue) Dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// Close delivers what is queued and waits for that, or for ctx: then what is
// left counts as dropped, and it returns false. Nothing may be put after.
func (q *Queue) Close(ctx context.Context) bool {
	close(q.closed)
	select {
	case <-q.done:
		return true
	case <-ctx.Done():
		q.mu.Lock()
		defer q.mu.Unlock()
		q.dropped += uint64(len(q.waiting) + q.inHand)
		return false
	}
}
