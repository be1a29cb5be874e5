package e2e

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// What otelgrpc, in a kubelet that traces natively, says of its calls is the
// oracle for our spans of the same calls.

// traced is a tracer provider and what came of it.
func traced(t testing.TB, sampler sdk.Sampler) (*sdk.TracerProvider, *tracetest.InMemoryExporter) {
	spans := tracetest.NewInMemoryExporter()
	tp := sdk.NewTracerProvider(sdk.WithSyncer(spans), sdk.WithSampler(sampler))
	t.Cleanup(func() { tp.Shutdown(context.Background()) })
	return tp, spans
}

// TestFakesSpansOfTraced holds that each of our spans is the child of the
// caller's, says all that the caller's says, and says it the same.
func TestFakesSpansOfTraced(t *testing.T) {
	n := newFakeNode(t)
	collector := NewCollector(t)
	tap := front(t, n.cri, "--otlp-endpoint", collector.Address, "--otlp-insecure")
	tp, native := traced(t, sdk.AlwaysSample())
	counts := &oracle{}
	k := n.kubelet(tap.Listen, n.csi, fakecri.WithTracerProvider(tp), counts.option())
	if err := fakecri.Errors(k.CallAllCRI(t.Context())); err != nil {
		t.Error(err)
	}
	// Every code that there is, and one that there isn't.
	for code := codes.Canceled; code <= codes.Unauthenticated+1; code++ {
		n.On(cri.RuntimeService_StartContainer_FullMethodName, fakecri.Fail(code, fmt.Sprintf("größer\nas %d", code)))
		_, _ = k.Runtime.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: "c"})
	}
	if _, err := fakecri.Say(t.Context(), k.Conn(), []byte("hello")); err != nil {
		t.Error(err)
	}
	if _, err := fakecri.Chat(t.Context(), k.Conn(), [][]byte{[]byte("hello")}); err != nil {
		t.Error(err)
	}
	counts.open.Wait()
	k.Close()
	tap.Stop()
	if !tap.Tells {
		return
	}
	ours := collector.Spans()
	byParent := map[string]*trace.Span{}
	for _, span := range ours {
		byParent[hex.EncodeToString(span.GetParentSpanId())] = span
	}
	theirs := native.GetSpans()
	if len(theirs) != len(counts.calls) || len(ours) != len(theirs) || len(byParent) != len(theirs) {
		t.Errorf("%d calls, %d spans of otelgrpc, %d of ours, under %d parents", len(counts.calls), len(theirs), len(ours), len(byParent))
	}
	for _, their := range theirs {
		our := byParent[their.SpanContext.SpanID().String()]
		if our == nil {
			t.Errorf("%s: no span of ours under otelgrpc's", their.Name)
			continue
		}
		compareSpans(t, their, our)
	}
	for _, r := range tap.Records() {
		if span := ours[r.SpanID]; span == nil || !r.NativeParent {
			t.Errorf("no span, or no native parent: %s", r)
		} else {
			checkIDs(t, r, span)
		}
	}
}

// compareSpans holds our span against the one that otelgrpc made of the call.
func compareSpans(t *testing.T, their tracetest.SpanStub, our *trace.Span) {
	t.Helper()
	if hex.EncodeToString(our.GetTraceId()) != their.SpanContext.TraceID().String() {
		t.Errorf("%s: not in the caller's trace", their.Name)
	}
	if our.GetName() != their.Name || our.GetKind() != trace.Span_SPAN_KIND_CLIENT || their.SpanKind.String() != "client" {
		t.Errorf("span %q of kind %v, otelgrpc's %q of kind %v", our.GetName(), our.GetKind(), their.Name, their.SpanKind)
	}
	attrs := attributes(our.GetAttributes())
	for _, kv := range their.Attributes {
		if got, ok := attrs[string(kv.Key)]; !ok || plainOTLP(got) != plain(kv.Value) {
			t.Errorf("%s: %s is %q, otelgrpc's %q", their.Name, kv.Key, plainOTLP(got), plain(kv.Value))
		}
	}
	for _, key := range []string{"rpc.system.name", "rpc.method", "rpc.response.status_code", "server.address"} {
		if _, ok := attrs[key]; !ok {
			t.Errorf("%s: no %s", their.Name, key)
		}
	}
	if got := attrs["network.transport"].GetStringValue(); got != "unix" {
		t.Errorf("%s: network.transport is %q", their.Name, got)
	}
	code, failed := attrs["rpc.response.status_code"].GetStringValue(), their.Status.Code == otelcodes.Error
	if got := attrs["error.type"].GetStringValue(); failed && got != code || !failed && got != "" {
		t.Errorf("%s: error.type is %q of a call that ended %s", their.Name, got, code)
	}
	status := our.GetStatus()
	if (status.GetCode() == trace.Status_STATUS_CODE_ERROR) != failed || status.GetCode() == trace.Status_STATUS_CODE_OK ||
		status.GetMessage() != their.Status.Description {
		t.Errorf("%s: status %v, otelgrpc's %+v", their.Name, status, their.Status)
	}
}

func plain(v attribute.Value) string { return fmt.Sprintf("%v %v", v.Type(), v.AsInterface()) }

func plainOTLP(v *common.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return plain(attribute.StringValue(v.StringValue))
	case *common.AnyValue_IntValue:
		return plain(attribute.Int64Value(v.IntValue))
	case *common.AnyValue_BoolValue:
		return plain(attribute.BoolValue(v.BoolValue))
	}
	return fmt.Sprint(v)
}

// TestFakesSpansOfUnsampled: a kubelet that traces but did not sample a call
// says so on the wire. The call is exported all the same, under that parent.
func TestFakesSpansOfUnsampled(t *testing.T) {
	n := newFakeNode(t)
	collector := NewCollector(t)
	tap := front(t, n.cri, "--otlp-endpoint", collector.Address, "--otlp-insecure")
	tp, native := traced(t, sdk.NeverSample())
	k := n.kubelet(tap.Listen, n.csi, fakecri.WithTracerProvider(tp))
	ctx, caller := tp.Tracer("test").Start(t.Context(), "syncPod")
	if _, err := k.Runtime.Version(ctx, &cri.VersionRequest{}); err != nil {
		t.Error(err)
	}
	k.Close()
	tap.Stop()
	if !tap.Tells {
		return
	}
	if len(native.GetSpans()) != 0 {
		t.Fatal("the kubelet sampled its call")
	}
	records := tap.Records()
	if len(records) != 1 || !records[0].NativeParent || records[0].TraceID != caller.SpanContext().TraceID().String() {
		t.Fatalf("not told as a call in the caller's trace:\n%s", lines(records))
	}
	span := collector.Spans()[records[0].SpanID]
	if span == nil {
		t.Fatal("no span of the call came")
	}
	checkIDs(t, records[0], span)
}

// TestFakesSpansOfUntraced: the kubelet never traces CSI. Each call is a trace
// of its own, or in its pod's, and says all that a span of ours says.
func TestFakesSpansOfUntraced(t *testing.T) {
	n := newFakeNode(t)
	collector := NewCollector(t)
	tap := front(t, n.csi, "--otlp-endpoint", collector.Address, "--otlp-insecure")
	tp, native := traced(t, sdk.AlwaysSample())
	k := n.kubelet(n.cri, tap.Listen, fakecri.WithTracerProvider(tp))
	if err := fakecri.Errors(k.CallAllCSI(t.Context(), n.driver.Name)); err != nil {
		t.Error(err)
	}
	tap.Stop()
	if !tap.Tells {
		return
	}
	if len(native.GetSpans()) != 0 {
		t.Error("the fake kubelet traces CSI, which the real one does not")
	}
	records, spans := tap.Records(), collector.Spans()
	if want := len(fakecri.CSIMethods()); len(records) != want || len(spans) != want {
		t.Errorf("%d records and %d spans of %d calls", len(records), len(spans), want)
	}
	checkSpans(t, records, collector, tap.Tap)
	traces, roots := map[string]bool{}, collector.Roots()
	alone := 0
	for _, r := range records {
		root := roots[r.ParentSpanID]
		switch {
		case r.NativeParent:
			t.Errorf("has a native parent: %s", r)
		case r.ParentSpanID == "":
			alone++
			traces[r.TraceID] = true
		case root == nil || !strings.HasPrefix(root.GetName(), "pod st") || hex.EncodeToString(root.GetTraceId()) != r.TraceID:
			t.Errorf("its parent is no pod's root: %s", r)
		}
		if driver := attributes(spans[r.SpanID].GetAttributes())["container.csi.plugin.name"].GetStringValue(); strings.HasPrefix(r.Method, "Node") && driver != n.driver.Name {
			t.Errorf("%s: container.csi.plugin.name is %q", r.Method, driver)
		}
	}
	if len(traces) != alone || alone == len(records) {
		t.Errorf("%d traces of %d calls that are no pod's, of %d", len(traces), alone, len(records))
	}
}
