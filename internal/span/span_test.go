package span

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

func attrMap(s *tracepb.Span) map[string]any {
	m := map[string]any{}
	for _, kv := range s.Attributes {
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			m[kv.Key] = v.IntValue
		case *commonpb.AnyValue_BoolValue:
			m[kv.Key] = v.BoolValue
		case *commonpb.AnyValue_DoubleValue:
			m[kv.Key] = v.DoubleValue
		case *commonpb.AnyValue_ArrayValue:
			m[kv.Key] = "[" + v.ArrayValue.Values[0].GetStringValue() + "]"
		}
	}
	return m
}

func wantAttrs(t *testing.T, s *tracepb.Span, want map[string]any) {
	t.Helper()
	got := attrMap(s)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %#v, want %#v", k, got[k], v)
		}
	}
	for k := range maps.Keys(got) {
		if _, ok := want[k]; !ok {
			t.Errorf("%s = %#v is not wanted", k, got[k])
		}
	}
}

func TestEveryField(t *testing.T) {
	r := version()
	r.Method, r.Code, r.Message = "CreateContainer", "NOT_FOUND", "sandbox \xff\nnot found"
	r.Caller = call.Caller{PID: 812, Exe: "/usr/bin/kubelet"}
	r.Pod = call.Pod{Namespace: "shop", Name: "web-0", UID: "6f0c"}
	r.Container = call.Container{ID: "c0ffee", Name: "nginx"}
	r.Image = "reg.example:5000/team/nginx:1.27@sha256:abcd"
	r.Volume = call.Volume{ID: "vol-1", PV: "pv-1", PVC: "data", Driver: "nfs.csi.k8s.io", Path: "/x"}
	r.Request, r.Response = json.RawMessage(`{"a":"1"}`), json.RawMessage(`{}`)
	r.RequestBytes, r.ResponseBytes, r.Truncated = 120, 45, true
	r.ExitCode = new(int32)
	r.SandboxID = "5a9db0"
	r.Details, r.Subject = []byte(`[{"@type":"google.rpc.RetryInfo"}]`), "GPU-1"

	s := one(t, r)
	wantAttrs(t, s, map[string]any{
		"rpc.system.name": "grpc", "rpc.method": "runtime.v1.RuntimeService/CreateContainer",
		"rpc.response.status_code": "NOT_FOUND", "error.type": "NOT_FOUND",
		"server.address": "/run/containerd/containerd.sock", "network.transport": "unix",
		"k8s.namespace.name": "shop", "k8s.pod.name": "web-0", "k8s.pod.uid": "6f0c",
		"k8s.container.name": "nginx", "container.id": "c0ffee",
		"container.image.name": "reg.example:5000/team/nginx", "container.image.tags": "[1.27]",
		"container.image.repo_digests": "[reg.example:5000/team/nginx@sha256:abcd]",
		"container.csi.plugin.name":    "nfs.csi.k8s.io", "container.csi.volume.id": "vol-1", "k8s.persistentvolume.name": "pv-1",
		"grpc_tap.request.payload": `{"a":"1"}`, "grpc_tap.response.payload": `{}`,
		"grpc_tap.request.bytes": int64(120), "grpc_tap.response.bytes": int64(45),
		"grpc_tap.caller.pid": int64(812), "grpc_tap.caller.exe": "/usr/bin/kubelet",
		"grpc_tap.state": "done", "grpc_tap.truncated": true, "grpc_tap.exec.exit_code": int64(0),
		"grpc_tap.error.details": `[{"@type":"google.rpc.RetryInfo"}]`, "grpc_tap.subject": "GPU-1",
		"grpc_tap.sandbox.id": "5a9db0",
	})
	if s.Name != "runtime.v1.RuntimeService/CreateContainer" || s.Kind != tracepb.Span_SPAN_KIND_CLIENT {
		t.Errorf("name %q, kind %v", s.Name, s.Kind)
	}
	if s.Status.Code != tracepb.Status_STATUS_CODE_ERROR || s.Status.Message != "sandbox \uFFFD\nnot found" {
		t.Errorf("status %+v", s.Status)
	}
	if s.StartTimeUnixNano != uint64(r.Start.UnixNano()) || s.EndTimeUnixNano != s.StartTimeUnixNano+1500_000 {
		t.Errorf("%v – %v, want the record's", s.StartTimeUnixNano, s.EndTimeUnixNano)
	}
	if hex.EncodeToString(s.TraceId) != r.TraceID || hex.EncodeToString(s.SpanId) != r.SpanID || s.Flags&1 == 0 {
		t.Errorf("ids %x/%x, flags %x, want the record's", s.TraceId, s.SpanId, s.Flags)
	}
	if s.ParentSpanId != nil {
		t.Errorf("parent %x, want none", s.ParentSpanId)
	}
}

// What the record doesn't know is absent, not empty.
func TestUnknownIsAbsent(t *testing.T) {
	s := one(t, version())
	wantAttrs(t, s, map[string]any{
		"rpc.system.name": "grpc", "rpc.method": "runtime.v1.RuntimeService/Version", "rpc.response.status_code": "OK",
		"server.address": "/run/containerd/containerd.sock", "network.transport": "unix",
		"grpc_tap.request.bytes": int64(0), "grpc_tap.response.bytes": int64(0), "grpc_tap.state": "done",
	})
	if s.Status.Code != tracepb.Status_STATUS_CODE_UNSET || s.Status.Message != "" {
		t.Errorf("status %+v, want unset", s.Status)
	}
}

func TestParent(t *testing.T) {
	r := version()
	r.ParentSpanID, r.TraceState, r.NativeParent = "00f067aa0ba902b7", "congo=t61rcWkgMzE", true
	s := one(t, r)
	if hex.EncodeToString(s.TraceId) != r.TraceID || hex.EncodeToString(s.SpanId) != r.SpanID {
		t.Errorf("ids %x/%x, want the record's", s.TraceId, s.SpanId)
	}
	if hex.EncodeToString(s.ParentSpanId) != r.ParentSpanID || s.Flags&uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK) == 0 {
		t.Errorf("parent %x, flags %x", s.ParentSpanId, s.Flags)
	}
	if s.TraceState != r.TraceState {
		t.Errorf("tracestate %q, want the caller's", s.TraceState)
	}
}

func TestUnusableIDs(t *testing.T) {
	r := version()
	r.TraceID, r.SpanID, r.ParentSpanID, r.TraceState = "nonsense", strings.Repeat("0", 16), "00f067aa0ba902b7", "=="
	s := one(t, r)
	if len(s.TraceId) != 16 || len(s.SpanId) != 8 || s.ParentSpanId != nil || s.TraceState != "" {
		t.Errorf("%v: want new ids and no parent", s)
	}
}

func TestLost(t *testing.T) {
	r := version()
	r.State, r.Code, r.Message = call.Lost, "", "the server closed the connection"
	s := one(t, r)
	got := attrMap(s)
	if v, ok := got["rpc.response.status_code"]; ok {
		t.Errorf("status code %v was invented", v)
	}
	if got["error.type"] != "connection_lost" || got["grpc_tap.state"] != "lost" {
		t.Errorf("attributes %v", got)
	}
	if s.Status.Code != tracepb.Status_STATUS_CODE_ERROR || s.Status.Message != r.Message {
		t.Errorf("status %+v", s.Status)
	}
}

func TestRunningIsNoSpan(t *testing.T) {
	k := &kept{}
	e := newExporter(t, Options{client: k})
	r := version()
	r.State, r.Code = call.Running, ""
	record(e, r)
	shutdown(t, e)
	if len(k.spans) != 0 {
		t.Errorf("%d spans, want none", len(k.spans))
	}
}

func TestImage(t *testing.T) {
	for ref, want := range map[string][4]string{ // name, tag, digest, id
		"nginx":                     {"nginx"},
		"nginx:1.27":                {"nginx", "1.27"},
		"localhost:5000/a/b":        {"localhost:5000/a/b"},
		"localhost:5000/a/b:v1":     {"localhost:5000/a/b", "v1"},
		"a/b@sha256:12":             {"a/b", "", "a/b@sha256:12"},
		"a/b:v1@sha256:12":          {"a/b", "v1", "a/b@sha256:12"},
		"sha256:e4720093a3c1381245": {"", "", "", "sha256:e4720093a3c1381245"},
		"":                          {},
	} {
		r := version()
		r.Image = ref
		got := attrMap(one(t, r))
		for i, k := range []string{"container.image.name", "container.image.tags", "container.image.repo_digests", "container.image.id"} {
			if have, _ := got[k].(string); strings.Trim(have, "[]") != want[i] {
				t.Errorf("%q: %s = %q, want %q", ref, k, have, want[i])
			}
		}
	}
}

// Not to sample a call is no drop, and takes no place in the queue.
func TestSamplerFromEnvironment(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "2")
	k := &kept{}
	e := newExporter(t, Options{client: k})
	for range 10 {
		record(e, version())
	}
	shutdown(t, e)
	if st := e.Stats(); st.Exported != 0 || st.Dropped[QueueFull] != 0 {
		t.Errorf("stats %+v, want none", st)
	}
}

func BenchmarkSpan(b *testing.B) {
	e, err := New(b.Context(), Options{client: &kept{}})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Shutdown(b.Context())
	r := version()
	b.ReportAllocs()
	for b.Loop() {
		spanOf(r, e.limits)
	}
}
