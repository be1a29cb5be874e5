package tap

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// noted is a sink that notes when it was given what, and may take its time.
type noted struct {
	takes time.Duration
	begin time.Time

	mu    sync.Mutex
	given []int         // records at a time
	last  time.Duration // when, since begin
	next  uint64
	order bool // all came in order
}

func (n *noted) Records(all []*call.Record) {
	n.mu.Lock()
	n.given, n.last = append(n.given, len(all)), time.Since(n.begin)
	for _, r := range all {
		n.order = n.order && r.Connection == n.next
		n.next++
	}
	n.mu.Unlock()
	time.Sleep(n.takes)
}

func queued(size int, takes time.Duration) (*noted, *Queue, func(n int)) {
	sink := &noted{takes: takes, begin: time.Now(), order: true}
	q := NewQueue("noted", sink, size)
	next := uint64(0)
	return sink, q, func(n int) {
		for range n {
			q.put(&call.Record{Connection: next})
			next++
		}
	}
}

// Records wait for more, but not long, and not if there are many.
func TestRecordsLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, q, put := queued(1000, 0)
		want := func(records uint64, at time.Duration) {
			t.Helper()
			synctest.Wait()
			sink.mu.Lock()
			defer sink.mu.Unlock()
			if sink.next != records || sink.last != at || !sink.order || slices.Max(sink.given) > atOnce {
				t.Errorf("given %v until %v, in order: %v; want %d until %v", sink.given, sink.last, sink.order, records, at)
			}
		}
		put(1)
		time.Sleep(linger / 2)
		put(2)
		time.Sleep(linger / 2)
		want(3, linger)
		time.Sleep(linger)
		put(499)
		want(3, linger)
		put(1) // half of what there is room for
		want(503, 2*linger)
		put(1)
		q.Close(context.Background()) // is the end of waiting too
		want(504, 2*linger)
	})
}

// What a slow sink has in its hands takes room in the queue too, and of what was
// put all is given or counted, whenever it ends.
func TestEveryRecordIsGivenOrCounted(t *testing.T) {
	const size, all = 3 * atOnce, 5 * atOnce
	for _, patience := range []time.Duration{0, linger, 1500 * time.Millisecond, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			sink, q, put := queued(size, 700*time.Millisecond)
			for range 10 {
				put(all / 10)
				time.Sleep(linger)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			through := q.Close(ctx)
			sink.mu.Lock()
			given, last := sink.next, uint64(sink.given[len(sink.given)-1])
			sink.mu.Unlock()
			if through != (patience == time.Hour) {
				t.Errorf("patience %v: all is through: %v", patience, through)
			}
			if !through {
				given -= last // it has begun with these, and is not done
			}
			if dropped := q.Dropped(); dropped == 0 || given+dropped != all {
				t.Errorf("patience %v: %d given and %d dropped, of %d", patience, given, dropped, all)
			}
			<-q.done
		})
	}
}

type slowSink struct{ release chan struct{} }

func (s slowSink) Records([]*call.Record) { <-s.release }

func TestASlowSinkHoldsUpNobodyAndIsCounted(t *testing.T) {
	release := make(chan struct{})
	q := NewQueue("slow", slowSink{release}, 2)
	for range 10 {
		q.put(&call.Record{})
	}
	// One may be in the sink's hands, two are queued.
	if d := q.Dropped(); d != 7 && d != 8 {
		t.Errorf("%d dropped", d)
	}
	close(release)
	q.Close(context.Background())
}
