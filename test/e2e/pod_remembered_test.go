package e2e

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// TestPodTraceOutlivesItsTap kills the tap in the middle of a pod's start: the next
// one goes on with the trace, and tells its root, from its beginning and once.
func TestPodTraceOutlivesItsTap(t *testing.T) {
	n := newFakeNode(t)
	s := stand(t, n.cri)
	c := NewCollector(t)
	file := s.lab.Path("pods")
	join := func() *Tap {
		return s.tap("--join", "--remember", file, "--otlp-endpoint", c.Address, "--otlp-insecure")
	}

	first := join()
	k := n.kubelet(n.cri, n.csi)
	config := &cri.PodSandboxConfig{Metadata: &cri.PodSandboxMetadata{Namespace: "shop", Name: "web", Uid: "u-web"}}
	sandbox, err := k.Runtime.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	first.Until("the pod's start is stored", eventuallyTime, func() bool {
		b, _ := os.ReadFile(file)
		return strings.Contains(string(b), "u-web")
	})
	first.Until("its first call is exported", eventuallyTime, func() bool { return len(spansOf(c, "RunPodSandbox")) > 0 })
	first.Killed()

	second := join()
	decodedBy(second, k)
	image := &cri.ImageSpec{Image: "lab.invalid/web:1"}
	if _, err := k.Image.PullImage(t.Context(), &cri.PullImageRequest{Image: image, SandboxConfig: config}); err != nil {
		t.Fatal(err)
	}
	created, err := k.Runtime.CreateContainer(t.Context(), &cri.CreateContainerRequest{
		PodSandboxId: sandbox.PodSandboxId, SandboxConfig: config,
		Config: &cri.ContainerConfig{Metadata: &cri.ContainerMetadata{Name: "app"}, Image: image},
	})
	if err == nil {
		_, err = k.Runtime.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: created.GetContainerId()})
	}
	if err != nil {
		t.Fatal(err)
	}
	// Twenty seconds of nothing say that it has started.
	second.Until("the start is told", 2*eventuallyTime, func() bool { return len(c.Roots()) > 0 })
	second.leave()
	roots := c.Roots()
	if len(roots) != 1 {
		t.Fatalf("%d roots", len(roots))
	}
	for id, root := range roots {
		begun, started := spansOf(c, "RunPodSandbox"), spansOf(c, "StartContainer")
		if root.GetName() != "pod start shop/web" || len(begun) != 1 || len(started) != 1 || attributes(root.GetAttributes())["grpc_tap.pod.outcome"].GetStringValue() != "started" {
			t.Fatalf("root %v, and %d and %d calls", root, len(begun), len(started))
		}
		if root.GetStartTimeUnixNano() != begun[0].GetStartTimeUnixNano() || root.GetEndTimeUnixNano() != started[0].GetEndTimeUnixNano() {
			t.Errorf("the root is not from its first call to its last")
		}
		for _, span := range append(begun, started...) {
			if hex.EncodeToString(span.GetParentSpanId()) != id || string(span.GetTraceId()) != string(root.GetTraceId()) {
				t.Errorf("%s is not under the root", span.GetName())
			}
		}
	}
}

// spansOf are the calls of a method.
func spansOf(c *Collector, method string) (all []*trace.Span) {
	for _, span := range c.Spans() {
		if strings.HasSuffix(span.GetName(), "/"+method) {
			all = append(all, span)
		}
	}
	return all
}

// decodedBy makes calls until a tap tells of one: a kubelet's connection that is
// older than the tap is dialled anew first.
func decodedBy(p *Tap, k *fakecri.Kubelet) {
	p.t.Helper()
	since := time.Now()
	p.Until("the kubelet is decoded again", eventuallyTime, func() bool {
		if _, err := k.Runtime.Version(p.t.Context(), &cri.VersionRequest{}); err != nil {
			p.t.Fatal(err)
		}
		for _, r := range p.Records() {
			if r.Method == "Version" && r.Start.After(since) {
				return true
			}
		}
		return false
	})
}
