package span

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// recordIDs is an sdktrace.IDGenerator that gives a span the ids of its
// record: the SDK has no other way to start a span with ids made elsewhere.
type recordIDs struct{}

type idsKey struct{}

type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

// recordContext carries r's ids to recordIDs and, if r has a parent, that as
// the remote parent. Ids that are absent or not hex are replaced by random
// ones, the parent is then left out: such a span is still worth having.
func recordContext(r *call.Record) context.Context {
	var own ids
	own.trace, _ = trace.TraceIDFromHex(r.TraceID)
	own.span, _ = trace.SpanIDFromHex(r.SpanID)
	ctx := context.WithValue(context.Background(), idsKey{}, own)

	parent, err := trace.SpanIDFromHex(r.ParentSpanID)
	if err != nil || !own.trace.IsValid() {
		return ctx
	}
	state, _ := trace.ParseTraceState(r.TraceState) // W3C: an invalid tracestate is dropped, the parent stays
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: own.trace, SpanID: parent, TraceFlags: trace.TraceFlags(0).WithSampled(r.ParentSampled), TraceState: state, Remote: true,
	}))
}

// NewIDs is asked for a span without a parent.
func (recordIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	own, _ := ctx.Value(idsKey{}).(ids)
	for !own.trace.IsValid() {
		binary.BigEndian.PutUint64(own.trace[:8], rand.Uint64())
		binary.BigEndian.PutUint64(own.trace[8:], rand.Uint64())
	}
	return own.trace, spanID(own.span)
}

// NewSpanID is asked for a span with a parent; its trace is the parent's.
func (recordIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	own, _ := ctx.Value(idsKey{}).(ids)
	return spanID(own.span)
}

func spanID(id trace.SpanID) trace.SpanID {
	for !id.IsValid() {
		binary.BigEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}
