package tier

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/span"
)

// Of traces that a kubelet, an agent and a runtime have spans of, those are kept whole in
// which one of the three says that something failed, and of the others few; of the agents'
// own all.
func TestTierTailSampling(t *testing.T) {
	// What is undecided in the end is decided then: all of it.
	tier := NewTier(t, 3, "../../deploy/observability/tier/tail-sampling/tail-sampling.yaml", "yaml:processors::tail_sampling::decision_wait: 1h").Behind()
	services := map[string]*span.Exporter{}
	for _, service := range []string{"kubelet", "grpc-tap", "containerd"} {
		t.Setenv("OTEL_SERVICE_NAME", service)
		e, err := span.New(t.Context(), span.Options{Endpoint: tier.Gateway.Address, Insecure: true})
		if err != nil {
			t.Fatal(err)
		}
		services[service] = e
	}
	random := rand.New(rand.NewPCG(1, 1))
	spanOf := func(service, trace, code string) {
		services[service].Records([]*call.Record{{
			Service: "runtime.v1.RuntimeService", Method: "RunPodSandbox", State: call.Done, Code: code, Start: time.Now(),
			TraceID: trace, SpanID: fmt.Sprintf("%016x", random.Uint64()), Sampled: true,
		}})
	}
	failed, alone := map[string]bool{}, map[string]bool{}
	for i := range 400 {
		trace := fmt.Sprintf("%016x%016x", random.Uint64(), random.Uint64())
		switch {
		case i%4 == 0:
			alone[trace] = true
			spanOf("grpc-tap", trace, "OK")
			continue
		case i%10 == 1:
			failed[trace] = true
			spanOf("grpc-tap", trace, "INTERNAL")
		default:
			spanOf("grpc-tap", trace, "OK")
		}
		spanOf("kubelet", trace, "OK")
		spanOf("containerd", trace, "OK")
	}
	for _, e := range services {
		if err := e.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	tier.End()

	others := 0
	for trace, through := range tier.Sink.Through {
		want := 3
		if alone[trace] {
			want = 1
		} else if !failed[trace] {
			others++
		}
		if spans := sum(through); spans != want || len(through) != 1 {
			t.Errorf("%d spans of a trace that has %d, by %d collectors", spans, want, len(through))
		}
		delete(alone, trace)
		delete(failed, trace)
	}
	t.Logf("%d of the others are kept", others)
	if len(failed)+len(alone) > 0 || others > 30 {
		t.Errorf("missing are %d traces that failed and %d of the agents'; %d others are kept of 260", len(failed), len(alone), others)
	}
}
