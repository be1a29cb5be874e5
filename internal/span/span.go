// Package span turns records into OpenTelemetry spans and sends them by OTLP.
//
//	Record, Phase ──▶ ledger: room? ──▶ span ──▶ batches ──▶ OTLP/gRPC
//	                    │ no: queue_full              └ counts, says what failed
//
// Three rules. A record has its ids already (they are printed and captured
// too), so the span takes them and makes none up. Nothing here can hold up the
// caller: a record that finds no room is dropped and counted. And whatever is
// dropped is counted exactly.
//
// OpenTelemetry's globals are left alone: what a library of this process sets
// or reads there is not ours, and errors of ours are logged once, here.
package span

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

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

	client client // what batches are handed to; nil means OTLP/gRPC, and is the test seam
	once   bool   // for tests: no retries
}

// client is what we need of otlptrace.Client.
type client interface {
	UploadTraces(context.Context, []*tracepb.ResourceSpans) error
	Stop(context.Context) error
}

// Exporter makes a span of each record and exports it. Its methods may be
// called from several goroutines.
type Exporter struct {
	to      client
	ledger  *ledger
	outage  *outage
	sampler sdktrace.Sampler       // nil: every call is exported
	limits  sdktrace.SpanLimits    // the standard variables'
	around  *tracepb.ResourceSpans // of each request, without its spans

	stop   context.Context // ends when Shutdown has no more time
	giveUp context.CancelCauseFunc

	// mu is held while a record is taken, so that none slips in behind
	// Shutdown's last flush and is lost uncounted.
	mu      sync.Mutex
	batches batches
	closed  bool

	full    chan struct{} // a batch is
	closing chan struct{}
	done    chan struct{}
}

// New returns an Exporter. It does not dial: a collector that is down is
// reported when the first batch fails, and calls go on.
func New(ctx context.Context, o Options) (*Exporter, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	to, endpoint := o.client, o.Endpoint
	if to == nil {
		var err error
		if to, endpoint, err = newOTLP(ctx, o); err != nil {
			return nil, err
		}
	}
	res, err := Resource(ctx, o.Version)
	if err != nil {
		o.Log.Warn("some OpenTelemetry resource attributes are left out: correct OTEL_RESOURCE_ATTRIBUTES (key=value,key=value)", "error", err)
	}

	sampler, err := newSampler(os.Getenv)
	if err != nil {
		o.Log.Warn("the sampler's variables are passed over: correct them", "error", err)
	}
	queue := positiveEnv("OTEL_BSP_MAX_QUEUE_SIZE", sdktrace.DefaultMaxQueueSize)
	led := &ledger{limit: int64(queue)}
	e := &Exporter{
		to: to, ledger: led, outage: &outage{log: o.Log, endpoint: endpoint, ledger: led},
		sampler: sampler, limits: sdktrace.NewSpanLimits(), around: around(res, o.Version),
		batches: batches{limit: min(queue, positiveEnv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", sdktrace.DefaultMaxExportBatchSize))},
		full:    make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
	}
	e.stop, e.giveUp = context.WithCancelCause(context.Background())
	go e.send(envMilliseconds("OTEL_BSP_SCHEDULE_DELAY", 2000), envMilliseconds("OTEL_BSP_EXPORT_TIMEOUT", sdktrace.DefaultExportTimeout))
	return e, nil
}

// Samples says whether the standard variables name a sampler. Without one every
// call is exported that nobody else declines.
func (e *Exporter) Samples() bool { return e.sampler != nil }

// Sample says whether a call's span is to be exported, by the standard variables.
func (e *Exporter) Sample(r *call.Record) bool { return sampled(e.sampler, r) }

// Records queues a span for each that is sampled. It never waits for the collector; without room
// a record is dropped and counted. A call that still runs has no span yet.
func (e *Exporter) Records(all []*call.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range all {
		if r.State != call.Running {
			e.queue(r.Sampled, func() *tracepb.Span { return spanOf(r, e.limits) })
		}
	}
	e.wake()
}

// queue adds a span, if it is to be exported and there is room. mu is held.
func (e *Exporter) queue(sampled bool, span func() *tracepb.Span) {
	switch {
	case !sampled: // not a drop
	case e.closed:
		e.ledger.shutdown.Add(1)
	case e.ledger.begin():
		e.batches.add(span())
	}
}

// wake has a batch exported that is full. mu is held.
func (e *Exporter) wake() {
	if e.batches.anyFull() {
		select {
		case e.full <- struct{}{}:
		default:
		}
	}
}

// shutdownGrace is how long Shutdown waits, once it has cancelled the export
// under way, for the rest to be counted as failed.
const shutdownGrace = 250 * time.Millisecond

var errGaveUp = errors.New("gave up at shutdown")

// Shutdown exports what is queued and closes the connection. When ctx ends
// first, the export under way is cancelled and what was left is counted as
// failed; Shutdown returns within a moment of that. Records that come later are
// counted under "shutdown".
func (e *Exporter) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	already := e.closed
	e.closed = true
	e.mu.Unlock()
	if already {
		return nil
	}
	close(e.closing)
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
	}
	e.giveUp(errGaveUp)
	select {
	case <-e.done:
	case <-time.After(shutdownGrace):
	}
	return fmt.Errorf("flushing spans: %w", ctx.Err())
}
