package span

import (
	"context"
	"errors"
	"iter"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// maxRequestBytes keeps a request below the 4 MiB that a gRPC server takes by
// default: 512 spans with payloads and 9 KB messages can be more, and the
// collector would refuse them all.
const maxRequestBytes = 3 << 20

var errGaveUp = errors.New("gave up at shutdown")

// sink stands between the batch processor and the real exporter. It counts
// every span's outcome, reports an outage's beginning and end, and returns nil
// to the SDK always: what the SDK is told it says again, on its global handler.
type sink struct {
	next   sdktrace.SpanExporter
	ledger *ledger
	outage *outage

	stop   context.Context // ends when Shutdown has no more time
	cancel context.CancelCauseFunc
	closed chan struct{} // closed when the processor is done with us
}

func newSink(next sdktrace.SpanExporter, l *ledger, o *outage) *sink {
	s := &sink{next: next, ledger: l, outage: o, closed: make(chan struct{})}
	s.stop, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// giveUp cancels the export under way and fails all later ones at once. The
// SDK's own Shutdown stops waiting when its context ends, but leaves them going.
func (s *sink) giveUp() { s.cancel(errGaveUp) }

// ExportSpans exports one batch, in as many requests as its size needs.
func (s *sink) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.stop, func() { cancel(errGaveUp) })()
	for request := range bySize(spans, maxRequestBytes) {
		s.export(ctx, request)
	}
	return nil
}

func (s *sink) export(ctx context.Context, spans []sdktrace.ReadOnlySpan) {
	var a answer
	err := context.Cause(ctx)
	if err == nil {
		err = s.next.ExportSpans(context.WithValue(ctx, answerKey{}, &a), spans)
	}
	s.ledger.settle(len(spans), err != nil, a.rejected)
	s.outage.report(err, a)
}

// Shutdown is called by the batch processor after its last batch.
func (s *sink) Shutdown(ctx context.Context) error {
	defer close(s.closed)
	defer s.cancel(nil)
	return s.next.Shutdown(ctx)
}

// bySize cuts a batch into runs of about limit bytes at most, in order.
func bySize(spans []sdktrace.ReadOnlySpan, limit int) iter.Seq[[]sdktrace.ReadOnlySpan] {
	return func(yield func([]sdktrace.ReadOnlySpan) bool) {
		from, size := 0, 0
		for i, s := range spans {
			n := sizeOf(s)
			if i > from && size+n > limit {
				if !yield(spans[from:i]) {
					return
				}
				from, size = i, 0
			}
			size += n
		}
		if from < len(spans) {
			yield(spans[from:])
		}
	}
}

// sizeOf is roughly what a span takes in OTLP, and rather more than less.
func sizeOf(s sdktrace.ReadOnlySpan) int {
	n := 256 + len(s.Name()) + len(s.Status().Description) + len(s.SpanContext().TraceState().String())
	for _, kv := range s.Attributes() {
		n += 32 + len(kv.Key)
		if kv.Value.Type() == attribute.STRING {
			n += len(kv.Value.AsString())
		} else {
			n += len(kv.Value.String())
		}
	}
	return n
}

// answer is what the collector said about a request that it accepted.
type answer struct {
	rejected int64
	message  string
}

type answerKey struct{}

// takeAnswer is a gRPC interceptor: it moves partial_success out of the
// response into the context's answer. otlptracegrpc makes an error of it, which
// cannot be told from a batch that never arrived, nor its count be read.
func takeAnswer(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	a, _ := ctx.Value(answerKey{}).(*answer)
	res, _ := reply.(*coltracepb.ExportTraceServiceResponse)
	if err == nil && a != nil && res.GetPartialSuccess() != nil {
		*a = answer{res.PartialSuccess.GetRejectedSpans(), res.PartialSuccess.GetErrorMessage()}
		res.PartialSuccess = nil
	}
	return err
}
