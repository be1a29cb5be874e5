package span

import (
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// spanOf is r as the OTLP span that it is, within the standard variables'
// limits. The SDK's tracer is made for spans that are built up while they run,
// and costs accordingly: docs/decisions/0003.
func spanOf(r *call.Record, limits sdktrace.SpanLimits) *tracepb.Span {
	traceID, spanID, parent := ids(r)
	code, message := status(r)
	s := &tracepb.Span{
		TraceId: traceID[:], SpanId: spanID[:],
		Name: name(r), Kind: tracepb.Span_SPAN_KIND_CLIENT,
		StartTimeUnixNano: nanos(r.Start), EndTimeUnixNano: nanos(r.End()),
		Attributes: make([]*commonpb.KeyValue, 0, 16), Status: &tracepb.Status{Code: code, Message: message},
		Flags: uint32(trace.FlagsSampled) | uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK),
	}
	if parent.IsValid() {
		id := parent.SpanID()
		s.ParentSpanId, s.TraceState = id[:], parent.TraceState().String()
		if !r.PodParent {
			s.Flags |= uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
		}
	}
	if r.PodSpanID != "" && r.PodTraceID != r.TraceID {
		link(s, call.Link{TraceID: r.PodTraceID, SpanID: r.PodSpanID}, limits)
	}
	a := attributes{span: s, limits: limits}
	a.addAll(r)
	return s
}

func nanos(t time.Time) uint64 { return uint64(max(0, t.UnixNano())) }

// attributes adds to a span's, as far as the limits leave room.
type attributes struct {
	span   *tracepb.Span
	limits sdktrace.SpanLimits
	free   []keyValue
}

// keyValue is what most attributes consist of; many are allocated at once.
type keyValue struct {
	pair  commonpb.KeyValue
	value commonpb.AnyValue
	text  commonpb.AnyValue_StringValue
}

// add adds an attribute without its value.
func (a *attributes) add(k attribute.Key) *keyValue {
	if len(a.free) == 0 {
		a.free = make([]keyValue, 16)
	}
	kv := &a.free[0]
	if limit := a.limits.AttributeCountLimit; limit >= 0 && len(a.span.Attributes) >= limit {
		a.span.DroppedAttributesCount++
		return kv // which is not the span's
	}
	a.free = a.free[1:]
	kv.pair.Key, kv.pair.Value = string(k), &kv.value
	a.span.Attributes = append(a.span.Attributes, &kv.pair)
	return kv
}

// known is an attribute that is absent where it is not known.
func (a *attributes) known(k attribute.Key, v string) {
	if v != "" {
		kv := a.add(k)
		kv.text.StringValue = a.cut(valid(v))
		kv.value.Value = &kv.text
	}
}

// one is an attribute whose value is a list, of one string.
func (a *attributes) one(k attribute.Key, v string) {
	kv := a.add(k)
	kv.text.StringValue = a.cut(v)
	list := &commonpb.ArrayValue{Values: []*commonpb.AnyValue{{Value: &kv.text}}}
	kv.value.Value = &commonpb.AnyValue_ArrayValue{ArrayValue: list}
}

func (a *attributes) int(k attribute.Key, v int64) {
	a.add(k).value.Value = &commonpb.AnyValue_IntValue{IntValue: v}
}

func (a *attributes) yes(k attribute.Key) {
	a.add(k).value.Value = &commonpb.AnyValue_BoolValue{BoolValue: true}
}

func (a *attributes) seconds(k attribute.Key, d time.Duration) {
	a.add(k).value.Value = &commonpb.AnyValue_DoubleValue{DoubleValue: d.Seconds()}
}

// cut shortens a string to the limit's characters.
func (a *attributes) cut(v string) string {
	limit := a.limits.AttributeValueLengthLimit
	if limit < 0 || len(v) <= limit {
		return v
	}
	at := 0
	for ; limit > 0 && at < len(v); limit-- {
		_, n := utf8.DecodeRuneInString(v[at:])
		at += n
	}
	return v[:at]
}
