// Package span turns records into OpenTelemetry spans and sends them by OTLP.
//
//	Record ──▶ ledger: room? ──▶ SDK span ──▶ batch processor ──▶ sink ──▶ OTLP/gRPC
//	             │ no: queue_full                                   └ counts, says what failed
//
// Three rules. A record has its ids already (they are printed and captured
// too), so the span takes them and makes none up. Nothing here can hold up the
// caller: a record that finds no room is dropped and counted. And whatever is
// dropped is counted exactly, which the SDK's batch processor does not do: it
// drops in silence; the ledger in front of it sees to it that it never has to.
//
// OpenTelemetry's globals are left alone: what a library of this process sets
// or reads there is not ours, and errors of ours are logged once, here.
package span

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// scopeName is the instrumentation scope of every span.
const scopeName = "github.com/grpc-tap/grpc-tap"

// Options say where spans go. The zero value leaves all of it to the standard
// OTEL_ environment variables.
type Options struct {
	Endpoint string // --otlp-endpoint, HOST:PORT; empty: OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT
	Insecure bool   // --otlp-insecure: no TLS
	Version  string // grpc-tap's own, for service.version
	Log      *slog.Logger
	// Exporter is what batches are handed to; nil means OTLP/gRPC, and is the
	// test seam.
	Exporter sdktrace.SpanExporter

	once bool // for tests: no retries
}

// Exporter makes a span of each record and exports it. Its methods may be
// called from several goroutines.
type Exporter struct {
	batches sdktrace.SpanProcessor
	tracer  trace.Tracer
	ledger  *ledger
	sink    *sink

	// closing is held for reading while a record is handed over, so that none
	// slips in behind Shutdown's last flush and is lost uncounted.
	closing sync.RWMutex
	closed  bool
}

// New returns an Exporter. It does not dial: a collector that is down is
// reported when the first batch fails, and calls go on.
func New(ctx context.Context, o Options) (*Exporter, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	next, endpoint := o.Exporter, o.Endpoint
	if next == nil {
		var err error
		if next, endpoint, err = newOTLP(ctx, o); err != nil {
			return nil, err
		}
	}
	res, err := newResource(ctx, o.Version)
	if err != nil {
		o.Log.Warn("some OpenTelemetry resource attributes are left out: correct OTEL_RESOURCE_ATTRIBUTES (key=value,key=value)", "error", err)
	}

	queue := positiveEnv("OTEL_BSP_MAX_QUEUE_SIZE", sdktrace.DefaultMaxQueueSize)
	led := &ledger{limit: int64(queue)}
	s := newSink(next, led, &outage{log: o.Log, endpoint: endpoint, ledger: led})
	batches := sdktrace.NewBatchSpanProcessor(s,
		sdktrace.WithMaxQueueSize(queue),
		sdktrace.WithMaxExportBatchSize(min(queue, positiveEnv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", sdktrace.DefaultMaxExportBatchSize))),
		sdktrace.WithBatchTimeout(time.Duration(positiveEnv("OTEL_BSP_SCHEDULE_DELAY", 2000))*time.Millisecond))
	opts := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(res), sdktrace.WithIDGenerator(recordIDs{}), sdktrace.WithSpanProcessor(batches),
	}
	// A kubelet whose tracing is configured but which did not sample a call
	// sends a traceparent with flags 00. The SDK's default, ParentBased, would
	// drop that call: so every call is kept unless someone asked for less.
	if os.Getenv("OTEL_TRACES_SAMPLER") == "" {
		opts = append(opts, sdktrace.WithSampler(sdktrace.AlwaysSample()))
	}
	tracer := sdktrace.NewTracerProvider(opts...).Tracer(scopeName,
		trace.WithInstrumentationVersion(o.Version), trace.WithSchemaURL(semconv.SchemaURL))
	return &Exporter{batches: batches, tracer: tracer, ledger: led, sink: s}, nil
}

// Record queues one span for r. It never waits for the collector; without room
// the record is dropped and counted. A call that still runs has no span yet.
func (e *Exporter) Record(r *call.Record) {
	if r.State == call.Running {
		return
	}
	e.closing.RLock()
	defer e.closing.RUnlock()
	if e.closed {
		e.ledger.shutdown.Add(1)
		return
	}
	if !e.ledger.begin() {
		return
	}
	_, s := e.tracer.Start(recordContext(r), name(r),
		trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(r.Start))
	if !s.SpanContext().IsSampled() {
		e.ledger.inflight.Add(-1) // OTEL_TRACES_SAMPLER said no: not a drop
		return
	}
	s.SetAttributes(attributes(r)...)
	s.SetStatus(status(r))
	s.End(trace.WithTimestamp(r.End()))
}

// shutdownGrace is how long Shutdown waits, once it has cancelled the export
// under way, for the rest to be counted as failed.
const shutdownGrace = 250 * time.Millisecond

// Shutdown exports what is queued and closes the connection. When ctx ends
// first, the export under way is cancelled and what was left is counted as
// failed; Shutdown returns within a moment of that. Records that come later are
// counted under "shutdown".
func (e *Exporter) Shutdown(ctx context.Context) error {
	e.closing.Lock()
	already := e.closed
	e.closed = true
	e.closing.Unlock()
	if already {
		return nil
	}
	// The processor's own: the provider's does nothing at all if ctx has ended.
	err := e.batches.Shutdown(ctx)
	if err == nil {
		return nil
	}
	e.sink.giveUp()
	select {
	case <-e.sink.closed:
	case <-time.After(shutdownGrace):
	}
	return fmt.Errorf("flushing spans: %w", err)
}
