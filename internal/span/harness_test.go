package span

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kept is an SpanExporter that keeps what it gets, through Shutdown too
// (tracetest's own forgets it then). While fail is set it fails instead.
type kept struct {
	mu    sync.Mutex
	spans tracetest.SpanStubs
	fail  error
}

func (k *kept) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	k.spans = append(k.spans, tracetest.SpanStubsFromReadOnlySpans(spans)...)
	return nil
}

func (*kept) Shutdown(context.Context) error { return nil }

func (k *kept) failWith(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}

// lines is a slog.Handler's writer that keeps each line.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func (l *lines) get() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.all...)
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func newExporter(t *testing.T, o Options) *Exporter {
	t.Helper()
	e, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdown(t, e) })
	return e
}

// shutdown flushes; its bound is there to end a test that hangs.
func shutdown(t *testing.T, e *Exporter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func flush(t *testing.T, e *Exporter) {
	t.Helper()
	if err := e.batches.ForceFlush(t.Context()); err != nil {
		t.Errorf("ForceFlush: %v", err)
	}
}

// one exports a single record and returns its span.
func one(t *testing.T, r *call.Record) tracetest.SpanStub {
	t.Helper()
	k := &kept{}
	e := newExporter(t, Options{Exporter: k, Version: "v1.2.3"})
	e.Record(r)
	shutdown(t, e)
	if len(k.spans) != 1 {
		t.Fatalf("%d spans, want 1", len(k.spans))
	}
	return k.spans[0]
}

func version() *call.Record {
	return &call.Record{
		Start: time.Date(2026, 3, 1, 10, 0, 0, 123456789, time.UTC), DurationMS: 1.5, State: call.Done,
		Service: "runtime.v1.RuntimeService", Method: "Version", Code: "OK", Socket: "/run/containerd/containerd.sock",
		TraceID: "0af7651916cd43dd8448eb211c80319c", SpanID: "b7ad6b7169203331",
	}
}
