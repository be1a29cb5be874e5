package span

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

const remote = uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)

var begin = time.Date(2026, 3, 1, 10, 15, 2, 0, time.UTC)

func podStart() *call.Phase {
	return &call.Phase{
		Kind: call.PodStart, Pod: call.Pod{Namespace: "shop", Name: "web-0", UID: "6f0c"},
		TraceID: "1af7651916cd43dd8448eb211c80319c", SpanID: "a7ad6b7169203331",
		Begin: begin, End: begin.Add(47200 * time.Millisecond), Outcome: call.Started,
		Steps: []call.Step{{Name: "volumes_published", Took: 34 * time.Second}, {Name: "containers_started", Took: 47200 * time.Millisecond}},
		Count: 9, Failures: 2,
		LastFailure: call.Failure{Method: "NodePublishVolume", Subject: "pv-1", Code: "INTERNAL", Message: "mount failed\nno route to host"},
		Links:       []call.Link{{TraceID: "0af7651916cd43dd8448eb211c80319c", SpanID: "b7ad6b7169203331"}, {TraceID: "none", SpanID: ""}},
	}
}

func notice() *call.Failing {
	p := podStart()
	return &call.Failing{
		Kind: p.Kind, Pod: p.Pod, TraceID: p.TraceID, SpanID: "c7ad6b7169203331", ParentSpanID: p.SpanID,
		Begin: begin, End: begin.Add(time.Second), Failures: 1, Failure: p.LastFailure,
	}
}

// exported are the spans of what is given.
func exported(t *testing.T, o Options, records []*call.Record, phases []*call.Phase, failing []*call.Failing) []*tracepb.Span {
	t.Helper()
	k := &kept{}
	o.client = k
	e := newExporter(t, o)
	record(e, records...)
	e.Phases(phases, failing)
	shutdown(t, e)
	if n := e.Stats().Exported; n != uint64(len(k.spans)) {
		t.Errorf("%d are counted as exported, of %d", n, len(k.spans))
	}
	return k.spans
}

func TestRoot(t *testing.T) {
	p := podStart()
	s := exported(t, Options{}, nil, []*call.Phase{p}, nil)[0]
	if s.Name != "pod start shop/web-0" || s.Kind != tracepb.Span_SPAN_KIND_INTERNAL || s.ParentSpanId != nil || s.Flags&remote != 0 {
		t.Errorf("%v", s)
	}
	if hex.EncodeToString(s.TraceId) != p.TraceID || hex.EncodeToString(s.SpanId) != p.SpanID {
		t.Errorf("ids %x/%x, want the phase's", s.TraceId, s.SpanId)
	}
	if s.StartTimeUnixNano != uint64(p.Begin.UnixNano()) || s.EndTimeUnixNano != uint64(p.End.UnixNano()) {
		t.Errorf("%d – %d", s.StartTimeUnixNano, s.EndTimeUnixNano)
	}
	wantAttrs(t, s, map[string]any{
		"k8s.namespace.name": "shop", "k8s.pod.name": "web-0", "k8s.pod.uid": "6f0c",
		"grpc_tap.pod.outcome": "started", "grpc_tap.pod.calls": int64(9), "grpc_tap.pod.failures": int64(2),
		"grpc_tap.pod.time_to.volumes_published": 34.0, "grpc_tap.pod.time_to.containers_started": 47.2,
		"grpc_tap.pod.last_failure.method": "NodePublishVolume", "grpc_tap.pod.last_failure.subject": "pv-1",
		"grpc_tap.pod.last_failure.message": "mount failed\nno route to host",
	})
	if s.Status.Code != tracepb.Status_STATUS_CODE_UNSET {
		t.Errorf("status %v of a pod that has started", s.Status)
	}
	if len(s.Links) != 1 || hex.EncodeToString(s.Links[0].TraceId) != p.Links[0].TraceID || hex.EncodeToString(s.Links[0].SpanId) != p.Links[0].SpanID {
		t.Errorf("links %v", s.Links)
	}
}

func TestRootStatus(t *testing.T) {
	for outcome, failed := range map[call.Outcome]bool{
		call.Started: false, call.Stopped: false, call.Restarted: false, call.Unfinished: false, call.GaveUp: true, call.Capped: true,
	} {
		p := podStart()
		p.Outcome = outcome
		s := exported(t, Options{}, nil, []*call.Phase{p}, nil)[0]
		if (s.Status.Code == tracepb.Status_STATUS_CODE_ERROR) != failed ||
			failed && s.Status.Message != "NodePublishVolume INTERNAL: mount failed\nno route to host" {
			t.Errorf("%s: status %v", outcome, s.Status)
		}
		p.LastFailure = call.Failure{}
		s = exported(t, Options{}, nil, []*call.Phase{p}, nil)[0]
		if failed && s.Status.Message != string(outcome) {
			t.Errorf("%s: status %v without a failure", outcome, s.Status)
		}
	}
}

func TestNotice(t *testing.T) {
	f := notice()
	s := exported(t, Options{}, nil, nil, []*call.Failing{f})[0]
	if s.Name != "pod start shop/web-0 failing" || hex.EncodeToString(s.ParentSpanId) != f.ParentSpanID || s.Flags&remote != 0 {
		t.Errorf("%v", s)
	}
	if s.Status.Code != tracepb.Status_STATUS_CODE_ERROR || !strings.HasSuffix(s.Status.Message, "no route to host") {
		t.Errorf("status %v", s.Status)
	}
	wantAttrs(t, s, map[string]any{
		"k8s.namespace.name": "shop", "k8s.pod.name": "web-0", "k8s.pod.uid": "6f0c", "grpc_tap.pod.failures": int64(1),
		"grpc_tap.pod.last_failure.method": "NodePublishVolume", "grpc_tap.pod.last_failure.subject": "pv-1",
		"grpc_tap.pod.last_failure.message": "mount failed\nno route to host",
	})
}

// A call in its pod's trace has a parent that is ours, and no link; one that is
// not links to its pod's start.
func TestPodOfARecord(t *testing.T) {
	p := podStart()
	child, probe, native := version(), version(), version()
	for _, r := range []*call.Record{child, probe, native} {
		r.PodTraceID, r.PodSpanID = p.TraceID, p.SpanID
	}
	child.TraceID, child.ParentSpanID, child.PodParent, child.NativeParent = p.TraceID, p.SpanID, true, true
	native.ParentSpanID, native.NativeParent, native.ParentSampled = "00f067aa0ba902b7", true, true
	for i, r := range []*call.Record{child, probe, native} {
		s := one(t, r)
		if links := len(s.Links); links != min(i, 1) || links > 0 && hex.EncodeToString(s.Links[0].SpanId) != p.SpanID {
			t.Errorf("%d: links %v", i, s.Links)
		}
		if (s.Flags&remote != 0) != (r == native) || hex.EncodeToString(s.ParentSpanId) != r.ParentSpanID {
			t.Errorf("%d: parent %x, flags %x", i, s.ParentSpanId, s.Flags)
		}
	}
	t.Setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "0")
	if s := one(t, probe); len(s.Links) != 0 || s.DroppedLinksCount != 1 {
		t.Errorf("%d links, %d dropped, of a limit of 0", len(s.Links), s.DroppedLinksCount)
	}
}

// Of a pod's trace a sampler keeps all or nothing, and what failed is not lost
// because its caller had not sampled it.
func TestSamplersAndPods(t *testing.T) {
	for _, name := range []string{"parentbased_always_on", "parentbased_traceidratio", "traceidratio", "always_off"} {
		t.Setenv("OTEL_TRACES_SAMPLER", name)
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
		for _, traceID := range []string{"1af7651916cd43dd0448eb211c80319c", "1af7651916cd43ddf448eb211c80319c"} {
			p, f, child := podStart(), notice(), version()
			p.TraceID, f.TraceID, child.TraceID = traceID, traceID, traceID
			child.ParentSpanID, child.PodParent, child.NativeParent = p.SpanID, true, true
			if n := len(exported(t, Options{}, []*call.Record{child}, []*call.Phase{p}, []*call.Failing{f})); n%3 != 0 {
				t.Errorf("%s: %d spans of 3", name, n)
			}
		}
	}
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_on")
	failed, fine := version(), version()
	for _, r := range []*call.Record{failed, fine} {
		r.ParentSpanID, r.NativeParent = "00f067aa0ba902b7", true
	}
	failed.Code = "UNKNOWN"
	if got := exported(t, Options{}, []*call.Record{failed, fine}, nil, nil); len(got) != 1 || got[0].Status.Code != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("%d spans, want the one that failed", len(got))
	}
}

// Roots and notices are counted as records are.
func TestPhasesAreCounted(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "2")
	g := newGate()
	e := newExporter(t, Options{client: g})
	e.Phases([]*call.Phase{podStart()}, []*call.Failing{notice(), notice()})
	record(e, version())
	close(g.open)
	shutdown(t, e)
	e.Phases([]*call.Phase{podStart()}, []*call.Failing{notice()})
	if st := e.Stats(); st.Exported != 2 || st.Dropped[QueueFull] != 2 || st.Dropped[Shutdown] != 2 {
		t.Errorf("%+v", st)
	}
}
