package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// TestFakesMetrics holds the page against the records: every call is counted once,
// and an exemplar is a span that the collector has.
func TestFakesMetrics(t *testing.T) {
	notSocat(t, "counts nothing")
	n := newFakeNode(t)
	collector := NewCollector(t)
	tap := front(t, n.cri, "--otlp-endpoint", collector.Address, "--otlp-insecure", "--metrics-listen", "127.0.0.1:0")
	page := pageOf(tap.Tap)
	made := &oracle{}
	k := n.kubelet(tap.Listen, n.csi, made.option())
	if err := fakecri.Errors(k.CallAllCRI(t.Context())); err != nil {
		t.Error(err)
	}
	for code := codes.Canceled; code <= codes.Unauthenticated+1; code++ {
		n.On(cri.RuntimeService_StartContainer_FullMethodName, fakecri.Fail(code, "as it was told"))
		_, _ = k.Runtime.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: "c"})
	}
	for i := range 10 { // methods without end
		_ = k.Conn().Invoke(t.Context(), fmt.Sprintf("/acme.v1.Vault/Open%d", i), &cri.VersionRequest{}, &cri.VersionResponse{})
	}
	page.hangs(n, k)
	made.open.Wait()

	calls := len(made.calls)
	known := func(service string) bool { return strings.HasPrefix(service, "runtime.v1.") }
	eventually(t, "what is told is counted", func() bool {
		records := tap.Records()
		return len(records) == calls && maps.Equal(page.counted(), toldAs(records, known))
	})
	eventually(t, "every call's span is with the collector", func() bool { return len(collector.Spans()) == calls })
	eventually(t, "what the collector has is what was exported", func() bool {
		return page.value("grpc_tap_spans_exported_total") == float64(calls+len(collector.Roots()))
	})
	if got := page.value("rpc_client_call_duration_seconds_count", "rpc_response_status_code", "", "error_type", "connection_lost"); got != 1 {
		t.Errorf("%v calls were lost, not 1", got)
	}
	checkExemplars(t, page, collector)
	if got := page.value("rpc_client_call_duration_seconds_count", "server_address", tap.Listen); got != float64(calls) {
		t.Errorf("%v calls of %d have the path that was dialled", got, calls)
	}
	page.lint()
	page.refuses(tap.Listen)
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := page.get(path, ""); code != http.StatusOK || body != "ok\n" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

// TestFakesMetricsSent: with --otlp-metrics they go where spans go, and else only spans do.
func TestFakesMetricsSent(t *testing.T) {
	notSocat(t, "counts nothing")
	n := newFakeNode(t)
	for _, sends := range []bool{true, false} {
		collector := NewCollector(t)
		tap := front(t, n.cri, "--otlp-endpoint", collector.Address, "--otlp-insecure", fmt.Sprintf("--otlp-metrics=%t", sends))
		if err := version(tap.Listen); err != nil {
			t.Error(err)
		}
		eventually(t, "it is told", func() bool { return len(tap.Records()) == 1 })
		tap.Stop() // with which all is sent
		if _, sent := collector.Metrics.names.Load("rpc_client_call_duration_seconds"); sent != sends || collector.Total() != 1 {
			t.Errorf("sent %t and %d spans, with --otlp-metrics=%t", sent, collector.Total(), sends)
		}
	}
}

// hangs has a call run while the page is looked at, and then lose its connection.
func (p *page) hangs(n *fakeNode, k *fakecri.Kubelet) {
	p.t.Helper()
	n.On(cri.RuntimeService_Status_FullMethodName, fakecri.Hang())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = k.Runtime.Status(context.Background(), &cri.StatusRequest{})
	}()
	p.until(1, "grpc_tap_calls_running", "rpc_method", "runtime.v1.RuntimeService/Status")
	p.until(2, "grpc_tap_connections", "state", "decoded") // a kubelet's, to the runtime and its images
	k.Close()                                              // its connections end before the call does
	<-ended
	p.until(0, "grpc_tap_calls_running")
}

func checkExemplars(t *testing.T, p *page, c *Collector) {
	t.Helper()
	spans, n := c.Spans(), 0
	for _, s := range p.scrape()["rpc_client_call_duration_seconds_bucket"] {
		if s.exemplar == nil {
			continue
		}
		n++
		span := spans[s.exemplar["span_id"]]
		switch {
		case span == nil || fmt.Sprintf("%x", span.GetTraceId()) != s.exemplar["trace_id"]:
			t.Errorf("the exemplar %v is no span", s.exemplar)
		case span.GetName() != s.labels["rpc_method"] && s.labels["rpc_method"] != "_OTHER":
			t.Errorf("the exemplar of %v is a span of %s", s.labels, span.GetName())
		}
	}
	if n < 20 {
		t.Errorf("%d exemplars", n)
	}
}

// TestFakesMetricsUnsampled: a span that is not exported is nobody's exemplar, and
// its call counts all the same.
func TestFakesMetricsUnsampled(t *testing.T) {
	notSocat(t, "counts nothing")
	n := newFakeNode(t)
	tap := front(t, n.cri, "--metrics-listen", "127.0.0.1:0")
	page := pageOf(tap.Tap)
	k := n.kubelet(tap.Listen, n.csi)
	if _, err := k.Runtime.Version(t.Context(), &cri.VersionRequest{}); err != nil {
		t.Error(err)
	}
	page.until(1, "rpc_client_call_duration_seconds_count", "rpc_method", "runtime.v1.RuntimeService/Version", "rpc_response_status_code", "OK")
	for name, all := range page.scrape() {
		for _, s := range all {
			if s.exemplar != nil {
				t.Errorf("%s has an exemplar: %v", name, s.exemplar)
			}
			if strings.HasPrefix(name, "grpc_tap_spans") {
				t.Errorf("no spans are exported, and %s is %v", name, s.value)
			}
		}
	}
	k.Close()
}

// TestFakesMetricsOfAttach: what happens to a path, and who is connected past it.
func TestFakesMetricsOfAttach(t *testing.T) {
	notSocat(t, "attaches to nothing")
	n := newFakeNode(t)
	older := n.kubelet(n.cri, n.csi)
	if _, err := older.Runtime.Version(t.Context(), &cri.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	a := attach(t, n.cri, "--metrics-listen", "127.0.0.1:0")
	page := pageOf(a.Tap)
	page.until(1, "grpc_tap_takeovers_total", "socket", n.cri, "result", "taken")
	if got := page.value("grpc_tap_takeovers_total"); got != 1 {
		t.Errorf("%v things have happened to a path that was taken: %v", got, page.scrape()["grpc_tap_takeovers_total"])
	}
	if got := page.value("grpc_tap_connections", "state", "bypassed"); got != 1 {
		t.Errorf("%v connections pass by, not 1: %v", got, page.scrape()["grpc_tap_connections"])
	}
	if code, body := page.get("/readyz", ""); code != http.StatusOK || !strings.Contains(body, "1 connection older than grpc-tap") {
		t.Errorf("/readyz while a connection passes by: %d %s", code, body)
	}
	k := n.kubelet(n.cri, n.csi)
	if _, err := k.Runtime.Version(t.Context(), &cri.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	page.until(1, "rpc_client_call_duration_seconds_count")
	n.Stop() // the runtime ends: its path is not taken any more
	page.until(1, "grpc_tap_takeovers_total", "result", "away")
	if code, body := page.get("/readyz", ""); code != http.StatusServiceUnavailable || !strings.Contains(body, n.cri) {
		t.Errorf("/readyz of a path that we are not on: %d %s", code, body)
	}
	if code, _ := page.get("/healthz", ""); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
	k.Close()
	older.Close()
	a.stopped = true
	if err := a.Process.Stop(eventuallyTime); err != nil {
		t.Errorf("grpc-tap attach: %v; stderr:\n%s", err, a.Said())
	}
	a.processesEnd()
}
