package span

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// gate is a SpanExporter that holds every batch until opened or cancelled.
type gate struct {
	open    chan struct{}
	entered chan struct{}
	once    sync.Once
}

func newGate() *gate { return &gate{open: make(chan struct{}), entered: make(chan struct{})} }

func (g *gate) ExportSpans(ctx context.Context, _ []sdktrace.ReadOnlySpan) error {
	g.once.Do(func() { close(g.entered) })
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (*gate) Shutdown(context.Context) error { return nil }

func TestDropsAreExact(t *testing.T) {
	const room, writers, each = 64, 16, 500
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	g, log := newGate(), &lines{}
	e := newExporter(t, Options{Exporter: g, Log: log.logger(), Endpoint: "collector:4317"})

	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				e.Record(version())
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

func TestOutageIsSaidOnce(t *testing.T) {
	k, log := &kept{}, &lines{}
	e := newExporter(t, Options{Exporter: k, Log: log.logger(), Endpoint: "collector:4317"})
	record := func(n int) {
		for range n {
			e.Record(version())
			flush(t, e)
		}
	}
	record(2)
	k.failWith(errors.New("dial tcp: connection refused"))
	record(3)
	k.failWith(nil)
	record(2)
	k.failWith(errors.New("dial tcp: connection refused"))
	record(1)
	k.failWith(nil)
	record(1)

	got := log.get()
	want := []string{
		`level=WARN msg="cannot export spans: calls go on; spans are dropped and counted until it answers" endpoint=collector:4317 cause="dial tcp: connection refused" next="start the collector,`,
		`level=INFO msg="spans are exported again" endpoint=collector:4317 dropped=3`,
		`level=WARN msg="cannot export`,
		`level=INFO msg="spans are exported again" endpoint=collector:4317 dropped=1`,
	}
	if len(got) != len(want) {
		t.Fatalf("log:\n%s\nwant one line at the beginning and one at the end of each of two outages", strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("line %d: %s\nwant %s", i, got[i], want[i])
		}
	}
	if st := e.Stats(); st.Exported != 5 || st.Dropped[ExportFailed] != 4 {
		t.Errorf("stats %+v, want 5 exported, 4 failed", st)
	}
}

// A collector that never answers does not hold up the end; all is accounted for.
func TestShutdownIsBounded(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
	log := &lines{}
	e, err := New(t.Context(), Options{Exporter: newGate(), Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	for range 95 {
		e.Record(version())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v, want the context's error", err)
	}
	<-e.sink.closed
	e.Record(version())
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
	e := newExporter(t, Options{Exporter: k})
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				e.Record(version())
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

func TestBySize(t *testing.T) {
	small := tracetest.SpanStub{Name: "s"}
	large := tracetest.SpanStub{Name: strings.Repeat("x", 5000)}
	batch := tracetest.SpanStubs{small, small, large, small, large, large}.Snapshots()
	var got []int
	for part := range bySize(batch, 2000) {
		got = append(got, len(part))
	}
	want := []int{2, 1, 1, 1, 1} // one that is too large by itself is tried by itself
	if len(got) != len(want) {
		t.Fatalf("parts %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("parts %v, want %v", got, want)
		}
	}
}
