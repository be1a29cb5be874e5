package span

import (
	"context"
	"errors"
	"slices"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// maxRequestBytes keeps a request below the 4 MiB that a gRPC server takes by
// default: 512 spans with payloads and 9 KB messages can be more, and the
// collector would refuse them all.
const maxRequestBytes = 3 << 20

// batch is some spans, and their size.
type batch struct {
	spans []*tracepb.Span
	bytes int
}

// batches are the spans that wait, in order; only the last one is added to.
type batches struct {
	limit   int // of spans in one
	waiting []batch
}

func (b *batches) add(s *tracepb.Span) {
	size := proto.Size(s)
	last := len(b.waiting) - 1
	if last < 0 || b.isFull(last) || b.waiting[last].bytes+size > maxRequestBytes {
		b.waiting = append(b.waiting, batch{})
		last++
	}
	to := &b.waiting[last]
	to.spans = append(to.spans, s)
	to.bytes += size
}

func (b *batches) isFull(i int) bool {
	return i < len(b.waiting)-1 || len(b.waiting[i].spans) >= b.limit
}

func (b *batches) anyFull() bool { return len(b.waiting) > 0 && b.isFull(0) }

// take takes the oldest batch's spans, for as long as one is full, or any where
// all is to go.
func (b *batches) take(all bool) []*tracepb.Span {
	if len(b.waiting) == 0 || !all && !b.isFull(0) {
		return nil
	}
	oldest := b.waiting[0].spans
	b.waiting = slices.Delete(b.waiting, 0, 1)
	return oldest
}

// send exports each batch when it is full, all of them after each delay, and
// what is left when e is closed.
func (e *Exporter) send(delay, timeout time.Duration) {
	defer close(e.done)
	defer e.giveUp(nil)
	tick := time.NewTicker(delay)
	defer tick.Stop()
	for last := false; !last; {
		all := true
		select {
		case <-e.full:
			all = false
		case <-tick.C:
		case <-e.closing:
			last = true
		}
		for spans := e.take(all); len(spans) > 0; spans = e.take(all) {
			e.export(spans, timeout)
		}
	}
	_ = e.to.Stop(e.stop) // there is nothing to be done about it
}

func (e *Exporter) take(all bool) []*tracepb.Span {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.batches.take(all)
}

func (e *Exporter) export(spans []*tracepb.Span, timeout time.Duration) {
	ctx, cancel := context.WithTimeoutCause(e.stop, timeout, errors.New("OTEL_BSP_EXPORT_TIMEOUT"))
	defer cancel()
	var a answer
	err := context.Cause(ctx)
	if err == nil {
		err = e.to.UploadTraces(context.WithValue(ctx, answerKey{}, &a), e.request(spans))
	}
	e.ledger.settle(len(spans), err != nil, a.rejected)
	e.outage.report(err, a)
}

// request puts spans into what is around them.
func (e *Exporter) request(spans []*tracepb.Span) []*tracepb.ResourceSpans {
	scope := e.around.ScopeSpans[0]
	return []*tracepb.ResourceSpans{{
		Resource: e.around.Resource, SchemaUrl: e.around.SchemaUrl,
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: scope.Scope, SchemaUrl: scope.SchemaUrl, Spans: spans}},
	}}
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
