package span

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kept is a client that keeps the spans it gets. While fail is set it fails
// instead.
type kept struct {
	mu    sync.Mutex
	scope *commonpb.InstrumentationScope
	spans []*tracepb.Span
	fail  error
}

func (k *kept) UploadTraces(_ context.Context, sent []*tracepb.ResourceSpans) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	for _, rs := range received(sent) {
		for _, ss := range rs.ScopeSpans {
			k.scope = ss.Scope
			k.spans = append(k.spans, ss.Spans...)
		}
	}
	return nil
}

func (*kept) Stop(context.Context) error { return nil }

// received is a request as a collector reads it.
func received(sent []*tracepb.ResourceSpans) []*tracepb.ResourceSpans {
	wire, err := proto.Marshal(&coltracepb.ExportTraceServiceRequest{ResourceSpans: sent})
	if err != nil {
		panic(err)
	}
	var got coltracepb.ExportTraceServiceRequest
	if err := proto.Unmarshal(wire, &got); err != nil {
		panic(err)
	}
	return got.ResourceSpans
}

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

// settled waits until nothing waits or is under way.
func settled(t *testing.T, e *Exporter) {
	t.Helper()
	for end := time.Now().Add(time.Minute); e.ledger.inflight.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is exported")
		}
	}
}

// one exports a single record and returns its span.
func one(t *testing.T, r *call.Record) *tracepb.Span {
	t.Helper()
	k := &kept{}
	e := newExporter(t, Options{client: k, Version: "v1.2.3"})
	record(e, r)
	shutdown(t, e)
	if len(k.spans) != 1 || k.scope.Name != scopeName || k.scope.Version != "v1.2.3" {
		t.Fatalf("%d spans, want 1, of scope %v", len(k.spans), k.scope)
	}
	return k.spans[0]
}

func record(e *Exporter, records ...*call.Record) {
	for _, r := range records {
		r.Sampled = e.Sample(r)
	}
	e.Records(records)
}

func version() *call.Record {
	return &call.Record{
		Start: time.Date(2026, 3, 1, 10, 0, 0, 123456789, time.UTC), DurationMS: 1.5, State: call.Done,
		Service: "runtime.v1.RuntimeService", Method: "Version", Code: "OK", Socket: "/run/containerd/containerd.sock",
		TraceID: "0af7651916cd43dd8448eb211c80319c", SpanID: "b7ad6b7169203331",
	}
}
