package span

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// gate is a client that holds every batch until opened or cancelled.
type gate struct {
	open    chan struct{}
	entered chan struct{}
	once    sync.Once
}

func newGate() *gate { return &gate{open: make(chan struct{}), entered: make(chan struct{})} }

func (g *gate) UploadTraces(ctx context.Context, _ []*tracepb.ResourceSpans) error {
	g.once.Do(func() { close(g.entered) })
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (*gate) Stop(context.Context) error { return nil }

func TestDropsAreExact(t *testing.T) {
	const room, writers, each = 64, 16, 500
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	g, log := newGate(), &lines{}
	e := newExporter(t, Options{client: g, Log: log.logger(), Endpoint: "collector:4317"})

	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				record(e, version())
			}
		})
	}
	wg.Wait() // nothing was exported, and Record came back all the same
	<-g.entered
	if st := e.Stats(); st.Exported != 0 || st.Dropped[QueueFull] != writers*each-room {
		t.Errorf("while the collector hangs: %+v, want %d dropped", st, writers*each-room)
	}
	close(g.open)
	shutdown(t, e)
	st := e.Stats()
	if st.Exported != room || st.Dropped[QueueFull] != writers*each-room || st.Dropped[ExportFailed] != 0 {
		t.Errorf("in the end: %+v, want %d exported", st, room)
	}
	if got := log.get(); len(got) != 1 || !strings.Contains(got[0], "OTEL_BSP_MAX_QUEUE_SIZE") {
		t.Errorf("log %q, want the drops said once", got)
	}
}

// An outage is said once, and where one follows upon the other, not each of them.
func TestOutageIsSaidOnce(t *testing.T) { synctest.Test(t, outages) }

func outages(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
	k, log := &kept{}, &lines{}
	e := newExporter(t, Options{client: k, Log: log.logger(), Endpoint: "collector:4317"})
	calls := func(n int, err error) {
		k.failWith(err)
		for range n {
			record(e, version())
			settled(t, e)
		}
	}
	refused := errors.New("dial tcp: connection refused")
	calls(2, nil)
	calls(3, refused)
	calls(2, nil)
	for range 10 { // it refuses now and then
		calls(1, refused)
		calls(1, nil)
	}
	calls(1, refused)
	time.Sleep(sayEvery) // and goes on to
	calls(1, refused)
	calls(1, nil)

	shutdown(t, e)
	got := log.get()
	want := []string{
		`level=WARN msg="cannot export spans: calls go on; spans are dropped and counted until it answers" endpoint=collector:4317 cause="dial tcp: connection refused" next="start the collector,`,
		`level=INFO msg="spans are exported again" endpoint=collector:4317 dropped=3`,
		`level=WARN msg="cannot export`,
		`level=INFO msg="spans are exported again" endpoint=collector:4317 dropped=2`,
	}
	if len(got) != len(want) {
		t.Fatalf("log:\n%s\nwant one line at the beginning and one at the end of the first outage and the last", strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("line %d: %s\nwant %s", i, got[i], want[i])
		}
	}
	if st := e.Stats(); st.Exported != 15 || st.Dropped[ExportFailed] != 15 {
		t.Errorf("stats %+v, want 15 exported, 15 failed", st)
	}
}

// A collector that never answers does not hold up the end; all is accounted for.
func TestShutdownIsBounded(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
	log := &lines{}
	e, err := New(t.Context(), Options{client: newGate(), Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	for range 95 {
		record(e, version())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v, want the context's error", err)
	}
	<-e.done
	record(e, version())
	e.Records([]*call.Record{version()}) // not sampled, and so no drop
	if st := e.Stats(); st.Exported != 0 || st.Dropped[ExportFailed] != 95 || st.Dropped[Shutdown] != 1 {
		t.Errorf("stats %+v, want 95 failed and 1 after shutdown", st)
	}
	if got := log.get(); len(got) != 1 || !strings.Contains(got[0], errGaveUp.Error()) {
		t.Errorf("log %q, want one line", got)
	}
	if err := e.Shutdown(t.Context()); err != nil {
		t.Errorf("second Shutdown: %v", err)
	}
}

// Records and Shutdown at once: each record is exported or counted.
func TestRecordsDuringShutdown(t *testing.T) {
	const writers, each = 8, 200
	k := &kept{}
	e := newExporter(t, Options{client: k})
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				record(e, version())
			}
		})
	}
	shutdown(t, e)
	wg.Wait()
	st := e.Stats()
	if sum := st.Exported + st.Dropped[QueueFull] + st.Dropped[ExportFailed] + st.Dropped[Shutdown]; sum != writers*each {
		t.Errorf("stats %+v account for %d records of %d", st, sum, writers*each)
	}
	if int(st.Exported) != len(k.spans) {
		t.Errorf("%d counted as exported, %d arrived", st.Exported, len(k.spans))
	}
}

// A request is no longer than a collector takes, and no span is lost by that.
func TestBatches(t *testing.T) {
	sized := func(n int) *tracepb.Span { return &tracepb.Span{Name: strings.Repeat("x", n)} }
	small, large := sized(100), sized(maxRequestBytes/2)
	b := batches{limit: 3}
	for _, span := range []*tracepb.Span{small, small, small, small, large, large, small, small, sized(2 * maxRequestBytes), small} {
		b.add(span)
	}
	var counts []int
	for all := range 2 {
		for spans := b.take(all == 1); len(spans) > 0; spans = b.take(all == 1) {
			counts = append(counts, len(spans))
		}
		counts = append(counts, 0)
	}
	// What is too large by itself is tried by itself; the last one is not full.
	if want := []int{3, 2, 3, 1, 0, 1, 0}; !slices.Equal(counts, want) {
		t.Errorf("batches of %v, want %v", counts, want)
	}
}
