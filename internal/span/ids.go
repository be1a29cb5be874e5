package span

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// ids are those of r, and its parent if it has one. Ids that are absent or not
// hex are replaced by random ones, the parent is then left out: such a span is
// still worth having.
func ids(r *call.Record) (trace.TraceID, trace.SpanID, trace.SpanContext) {
	var parent trace.SpanContext
	traceID, err := trace.TraceIDFromHex(r.TraceID)
	for !traceID.IsValid() {
		binary.BigEndian.PutUint64(traceID[:8], rand.Uint64())
		binary.BigEndian.PutUint64(traceID[8:], rand.Uint64())
	}
	spanID, _ := trace.SpanIDFromHex(r.SpanID)
	for !spanID.IsValid() {
		binary.BigEndian.PutUint64(spanID[:], rand.Uint64())
	}
	if err == nil && r.ParentSpanID != "" {
		parent = parentOf(r, traceID)
	}
	return traceID, spanID, parent
}

func parentOf(r *call.Record, traceID trace.TraceID) trace.SpanContext {
	id, _ := trace.SpanIDFromHex(r.ParentSpanID)
	state, _ := trace.ParseTraceState(r.TraceState) // W3C: an invalid tracestate is dropped, the parent stays
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: id, TraceFlags: trace.TraceFlags(0).WithSampled(r.ParentSampled), TraceState: state, Remote: true,
	})
}

// sampled asks the sampler whether r is to be exported. A call in its pod's trace
// is asked for as the root is. One that failed is not left out because its caller
// did not sample it, which was before anybody knew.
func sampled(s sdktrace.Sampler, r *call.Record) bool {
	if s == nil {
		return true
	}
	traceID, _, parent := ids(r)
	if r.PodParent || r.Failed() && !r.ParentSampled {
		parent = trace.SpanContext{}
	}
	return s.ShouldSample(sdktrace.SamplingParameters{
		ParentContext: trace.ContextWithRemoteSpanContext(context.Background(), parent),
		TraceID:       traceID, Name: name(r), Kind: trace.SpanKindClient,
	}).Decision == sdktrace.RecordAndSample
}
