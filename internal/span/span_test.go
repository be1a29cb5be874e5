package span

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

func attrMap(s tracetest.SpanStub) map[string]any {
	m := map[string]any{}
	for _, kv := range s.Attributes {
		if kv.Value.Type() == attribute.STRINGSLICE {
			m[string(kv.Key)] = strings.Join(kv.Value.AsStringSlice(), ",")
			continue
		}
		m[string(kv.Key)] = kv.Value.AsInterface()
	}
	return m
}

func wantAttrs(t *testing.T, s tracetest.SpanStub, want map[string]any) {
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

	s := one(t, r)
	wantAttrs(t, s, map[string]any{
		"rpc.system.name": "grpc", "rpc.method": "runtime.v1.RuntimeService/CreateContainer",
		"rpc.response.status_code": "NOT_FOUND", "error.type": "NOT_FOUND",
		"server.address": "/run/containerd/containerd.sock", "network.transport": "unix",
		"k8s.namespace.name": "shop", "k8s.pod.name": "web-0", "k8s.pod.uid": "6f0c",
		"k8s.container.name": "nginx", "container.id": "c0ffee",
		"container.image.name": "reg.example:5000/team/nginx", "container.image.tags": "1.27",
		"container.image.repo_digests": "reg.example:5000/team/nginx@sha256:abcd",
		"container.csi.plugin.name":    "nfs.csi.k8s.io", "container.csi.volume.id": "vol-1", "k8s.persistentvolume.name": "pv-1",
		"grpc_tap.request.payload": `{"a":"1"}`, "grpc_tap.response.payload": `{}`,
		"grpc_tap.request.bytes": int64(120), "grpc_tap.response.bytes": int64(45),
		"grpc_tap.caller.pid": int64(812), "grpc_tap.caller.exe": "/usr/bin/kubelet",
		"grpc_tap.state": "done", "grpc_tap.truncated": true, "grpc_tap.exec.exit_code": int64(0),
	})
	if s.Name != "runtime.v1.RuntimeService/CreateContainer" || s.SpanKind != trace.SpanKindClient {
		t.Errorf("name %q, kind %v", s.Name, s.SpanKind)
	}
	if s.Status.Code != codes.Error || s.Status.Description != "sandbox \uFFFD\nnot found" {
		t.Errorf("status %+v", s.Status)
	}
	if !s.StartTime.Equal(r.Start) || !s.EndTime.Equal(r.Start.Add(1500*time.Microsecond)) {
		t.Errorf("%v – %v, want the record's", s.StartTime, s.EndTime)
	}
	if sc := s.SpanContext; sc.TraceID().String() != r.TraceID || sc.SpanID().String() != r.SpanID || !sc.IsSampled() {
		t.Errorf("ids %v/%v, want the record's", sc.TraceID(), sc.SpanID())
	}
	if s.Parent.IsValid() {
		t.Errorf("parent %v, want none", s.Parent.SpanID())
	}
	if s.InstrumentationScope.Name != scopeName || s.InstrumentationScope.Version != "v1.2.3" {
		t.Errorf("scope %+v", s.InstrumentationScope)
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
	if s.Status.Code != codes.Unset || s.Status.Description != "" {
		t.Errorf("status %+v, want unset", s.Status)
	}
}

func TestParent(t *testing.T) {
	r := version()
	r.ParentSpanID, r.TraceState, r.NativeParent = "00f067aa0ba902b7", "congo=t61rcWkgMzE", true
	s := one(t, r)
	if s.SpanContext.TraceID().String() != r.TraceID || s.SpanContext.SpanID().String() != r.SpanID {
		t.Errorf("ids %v/%v, want the record's", s.SpanContext.TraceID(), s.SpanContext.SpanID())
	}
	if s.Parent.SpanID().String() != r.ParentSpanID || s.Parent.TraceID().String() != r.TraceID || !s.Parent.IsRemote() {
		t.Errorf("parent %+v", s.Parent)
	}
	if got := s.SpanContext.TraceState().String(); got != r.TraceState {
		t.Errorf("tracestate %q, want the caller's", got)
	}
}

func TestUnusableIDs(t *testing.T) {
	r := version()
	r.TraceID, r.SpanID, r.ParentSpanID, r.TraceState = "nonsense", strings.Repeat("0", 16), "00f067aa0ba902b7", "=="
	s := one(t, r)
	if !s.SpanContext.IsValid() || s.Parent.IsValid() {
		t.Errorf("span %+v, parent %+v: want new ids and no parent", s.SpanContext, s.Parent)
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
	if s.Status.Code != codes.Error || s.Status.Description != r.Message {
		t.Errorf("status %+v", s.Status)
	}
}

func TestRunningIsNoSpan(t *testing.T) {
	k := &kept{}
	e := newExporter(t, Options{Exporter: k})
	r := version()
	r.State, r.Code = call.Running, ""
	e.Record(r)
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
		got := map[attribute.Key]string{}
		for _, kv := range attributes(r) {
			got[kv.Key] = kv.Value.String()
			if kv.Value.Type() == attribute.STRINGSLICE {
				got[kv.Key] = strings.Join(kv.Value.AsStringSlice(), ",")
			}
		}
		for i, k := range []attribute.Key{"container.image.name", "container.image.tags", "container.image.repo_digests", "container.image.id"} {
			if got[k] != want[i] {
				t.Errorf("%q: %s = %q, want %q", ref, k, got[k], want[i])
			}
		}
	}
}

// Not to sample a call is no drop, and takes no place in the queue.
func TestSamplerFromEnvironment(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "2")
	k := &kept{}
	e := newExporter(t, Options{Exporter: k})
	for range 10 {
		e.Record(version())
	}
	shutdown(t, e)
	if st := e.Stats(); st.Exported != 0 || st.Dropped[QueueFull] != 0 {
		t.Errorf("stats %+v, want none", st)
	}
}

func BenchmarkRecord(b *testing.B) {
	e, err := New(b.Context(), Options{Exporter: &kept{}})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Shutdown(b.Context())
	r := version()
	b.ReportAllocs()
	for b.Loop() {
		e.Record(r)
	}
}
