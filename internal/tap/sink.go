package tap

import (
	"context"
	"sync/atomic"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// Sink takes finished records, one at a time. A record is shared by all sinks:
// none may change it.
type Sink interface {
	Record(*call.Record)
}

// Queue stands between the decoder and a sink that may be slow: bounded, and
// when it is full the record is dropped for that sink alone, and counted.
type Queue struct {
	Name    string
	records chan *call.Record
	dropped atomic.Uint64
	pending atomic.Int64 // taken, and not through the sink yet
	done    chan struct{}
}

// QueueSize is the number of records that wait for one sink. A record with
// payloads as shown is about 5 KB: 20 MB at the very worst.
const QueueSize = 4096

// NewQueue starts a queue in front of sink.
func NewQueue(name string, sink Sink, size int) *Queue {
	q := &Queue{Name: name, records: make(chan *call.Record, size), done: make(chan struct{})}
	go q.deliver(sink)
	return q
}

func (q *Queue) deliver(sink Sink) {
	defer close(q.done)
	for r := range q.records {
		sink.Record(r)
		q.pending.Add(-1)
	}
}

func (q *Queue) put(r *call.Record) {
	q.pending.Add(1)
	select {
	case q.records <- r:
	default:
		q.pending.Add(-1)
		q.dropped.Add(1)
	}
}

// Dropped counts records that found the queue full.
func (q *Queue) Dropped() uint64 { return q.dropped.Load() }

// Close delivers what is queued and waits for that, or for ctx: then what is
// left counts as dropped, and it returns false. Nothing may be put after.
func (q *Queue) Close(ctx context.Context) bool {
	close(q.records)
	select {
	case <-q.done:
		return true
	case <-ctx.Done():
		q.dropped.Add(uint64(q.pending.Load()))
		return false
	}
}
