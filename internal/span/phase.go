package span

import (
	"context"
	"encoding/hex"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// What a pod's root span and its notices have. docs/spans.md is the table.
const (
	outcomeKey       = attribute.Key("grpc_tap.pod.outcome")
	callsKey         = attribute.Key("grpc_tap.pod.calls")
	failuresKey      = attribute.Key("grpc_tap.pod.failures")
	timeToKey        = "grpc_tap.pod.time_to." // and the step's name
	failedMethodKey  = attribute.Key("grpc_tap.pod.last_failure.method")
	failedSubjectKey = attribute.Key("grpc_tap.pod.last_failure.subject")
	failedMessageKey = attribute.Key("grpc_tap.pod.last_failure.message")
)

// Phases queues a root span for each phase that has ended, and a short span for
// each notice of one that is failing. As for Records, it never waits, and what
// finds no room is dropped and counted.
func (e *Exporter) Phases(ended []*call.Phase, failing []*call.Failing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range ended {
		e.queue(e.sampledRoot(p.TraceID, p.Name()), func() *tracepb.Span { return rootOf(p, e.limits) })
	}
	for _, f := range failing {
		e.queue(e.sampledRoot(f.TraceID, f.Name()), func() *tracepb.Span { return noticeOf(f, e.limits) })
	}
	e.wake()
}

// SamplePhase says whether a phase's root span is to be exported.
func (e *Exporter) SamplePhase(p *call.Phase) bool { return e.sampledRoot(p.TraceID, p.Name()) }

// sampledRoot asks the sampler whether a pod's trace is to be exported. Its
// calls are asked for as if they were roots too: of one trace, a sampler that
// goes by the trace id keeps all or nothing.
func (e *Exporter) sampledRoot(traceID, name string) bool {
	if e.sampler == nil {
		return true
	}
	id, _ := trace.TraceIDFromHex(traceID)
	return e.sampler.ShouldSample(sdktrace.SamplingParameters{
		ParentContext: context.Background(), TraceID: id, Name: valid(name), Kind: trace.SpanKindInternal,
	}).Decision == sdktrace.RecordAndSample
}

// rootOf is the span over the calls of a pod's start or stop.
func rootOf(p *call.Phase, limits sdktrace.SpanLimits) *tracepb.Span {
	s := internal(p.Name(), p.TraceID, p.SpanID)
	s.StartTimeUnixNano, s.EndTimeUnixNano = nanos(p.Begin), nanos(p.End)
	if p.Failed() {
		s.Status.Code, s.Status.Message = tracepb.Status_STATUS_CODE_ERROR, why(p)
	}
	a := attributes{span: s, limits: limits}
	a.pod(p.Pod)
	a.known(outcomeKey, string(p.Outcome))
	a.int(callsKey, int64(p.Count))
	a.int(failuresKey, int64(p.Failures))
	for _, step := range p.Steps {
		a.seconds(attribute.Key(timeToKey+step.Name), step.Took)
	}
	a.failure(p.LastFailure)
	for _, l := range p.Links {
		link(s, l, limits)
	}
	return s
}

// why is the last failure of a phase that did not come to its end.
func why(p *call.Phase) string {
	if p.LastFailure.Method == "" {
		return string(p.Outcome)
	}
	return saying(p.LastFailure)
}

// noticeOf is a short span that says what fails, under the root.
func noticeOf(f *call.Failing, limits sdktrace.SpanLimits) *tracepb.Span {
	s := internal(f.Name(), f.TraceID, f.SpanID)
	s.ParentSpanId, _ = hex.DecodeString(f.ParentSpanID)
	s.StartTimeUnixNano, s.EndTimeUnixNano = nanos(f.Begin), nanos(f.End)
	s.Status.Code, s.Status.Message = tracepb.Status_STATUS_CODE_ERROR, saying(f.Failure)
	a := attributes{span: s, limits: limits}
	a.pod(f.Pod)
	a.int(failuresKey, int64(f.Failures))
	a.failure(f.Failure)
	return s
}

func internal(name, traceID, spanID string) *tracepb.Span {
	s := &tracepb.Span{
		Name: valid(name), Kind: tracepb.Span_SPAN_KIND_INTERNAL, Status: &tracepb.Status{},
		Flags: uint32(trace.FlagsSampled) | uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK),
	}
	s.TraceId, _ = hex.DecodeString(traceID)
	s.SpanId, _ = hex.DecodeString(spanID)
	return s
}

func saying(f call.Failure) string {
	text := f.Method
	if f.Code != "" {
		text += " " + f.Code
	}
	if f.Message != "" {
		text += ": " + f.Message
	}
	return valid(text)
}

func (a *attributes) pod(p call.Pod) {
	a.known(semconv.K8SNamespaceNameKey, p.Namespace)
	a.known(semconv.K8SPodNameKey, p.Name)
	a.known(semconv.K8SPodUIDKey, p.UID)
}

func (a *attributes) failure(f call.Failure) {
	a.known(failedMethodKey, f.Method)
	a.known(failedSubjectKey, f.Subject)
	a.known(failedMessageKey, f.Message)
}

// link adds a link to a span in another trace, within the limit. One whose ids
// are none is left out.
func link(s *tracepb.Span, to call.Link, limits sdktrace.SpanLimits) {
	traceID, err := trace.TraceIDFromHex(to.TraceID)
	spanID, err2 := trace.SpanIDFromHex(to.SpanID)
	if err != nil || err2 != nil {
		return
	}
	if limits.LinkCountLimit >= 0 && len(s.Links) >= limits.LinkCountLimit {
		s.DroppedLinksCount++
		return
	}
	s.Links = append(s.Links, &tracepb.Span_Link{
		TraceId: traceID[:], SpanId: spanID[:],
		Flags: uint32(trace.FlagsSampled) | uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK),
	})
}
