package e2e

import (
	"context"
	"strings"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestFakesSamplers holds what the standard samplers make of a kubelet that has
// sampled its calls, and of one that has not: docs/spans.md, "Sampling".
func TestFakesSamplers(t *testing.T) {
	notSocat(t, "attaches to nothing")
	always, never := sdk.AlwaysSample(), sdk.NeverSample()
	// Of an unsampled kubelet: what is its pod's, and what failed.
	asRoots := strings.Replace(podStart, "grpc-tap: PodSandboxStatus -> pod start shop/web\n", "", 1) + podStop +
		"grpc-tap: ContainerStatus NOT_FOUND (under a span that nobody has)\n"
	// Of a kubelet that has sampled: its calls, and no pod's.
	callersOnly := strings.ReplaceAll(drawSyncs(syncs, ""), "pod start shop/web", "a span that nobody has") +
		"kubelet: syncPod\n  kubelet: ContainerStatus NOT_FOUND\n    grpc-tap: ContainerStatus NOT_FOUND\n"
	for name, c := range map[string]struct {
		kubelet      sdk.Sampler
		sampler, arg string
		want         string
	}{
		"parentbased_always_on":               {never, "parentbased_always_on", "", asRoots},
		"parentbased_traceidratio, all":       {never, "parentbased_traceidratio", "1", asRoots},
		"parentbased_traceidratio, none":      {never, "parentbased_traceidratio", "0", ""},
		"parentbased_always_off":              {never, "parentbased_always_off", "", ""},
		"parentbased_always_off of a sampled": {always, "parentbased_always_off", "", callersOnly},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTracedNode(t, c.kubelet, nil, "OTEL_TRACES_SAMPLER="+c.sampler, "OTEL_TRACES_SAMPLER_ARG="+c.arg)
			n.live()
			n.round("syncPod", func(ctx context.Context) error {
				if _, err := n.kubelet.Runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: "none"}); err == nil {
					t.Error("a container that nobody made has a status")
				}
				return nil
			})
			if got := n.end().draw(about); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
			if strings.Contains(n.tap.Said(), "dropped") {
				t.Errorf("what a sampler declines is no drop: %s", n.tap.Said())
			}
		})
	}
}
