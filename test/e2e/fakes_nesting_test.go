package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// tracedNode is a fake node with grpc-tap on both its sockets. Everybody's spans
// go to one collector.
type tracedNode struct {
	*fakeNode
	*Collector
	tap     *attached
	kubelet *fakecri.Kubelet
	tracer  *sdk.TracerProvider // the kubelet's; nil: it does not trace
}

// newTracedNode has kubelet and runtime trace natively where they have a sampler.
// env is for grpc-tap.
func newTracedNode(t *testing.T, kubelet, runtime sdk.Sampler, env ...string) *tracedNode {
	t.Helper()
	n := &tracedNode{Collector: NewCollector(t)}
	var traced []fakecri.Option
	if runtime != nil {
		traced = append(traced, fakecri.WithTracerProvider(n.Tracer(t, "runtime", runtime)))
	}
	n.fakeNode = newFakeNode(t, traced...)
	n.tap = attachBoth(t, n.fakeNode, env, "--otlp-endpoint", n.Address, "--otlp-insecure")
	traced = nil
	if kubelet != nil {
		n.tracer = n.Tracer(t, "kubelet", kubelet)
		traced = append(traced, fakecri.WithTracerProvider(n.tracer))
	}
	n.kubelet = n.fakeNode.kubelet(n.cri, n.csi, traced...)
	return n
}

// attachBoth starts attach on both sockets of a node.
func attachBoth(t *testing.T, n *fakeNode, env []string, args ...string) *attached {
	t.Helper()
	l := lab.New(t)
	a := &attached{Tap: &Tap{Listen: n.cri, Tells: true, t: t, lab: l}, state: l.Path("state"), was: lookAt(t, n.cri)}
	a.Process = l.Start("attach", env, append([]string{binary, "attach", n.cri, n.csi, "-o", "json", "--state-dir", a.state}, args...)...)
	t.Cleanup(a.detach)
	for _, path := range []string{n.cri, n.csi} {
		a.Until("it is on "+path, eventuallyTime, func() bool { return strings.Contains(a.Said(), "grpc-tap: on "+path+", relayed by") })
	}
	return a
}

// about says whether a call is about a pod, or a volume, of the node's.
func about(s *tree) bool {
	return !slices.Contains([]string{"Version", "NodeGetCapabilities", "ImageStatus"}, s.String())
}

// round is a round of the kubelet's sync loop, which is a trace where it traces.
func (n *tracedNode) round(name string, do func(context.Context) error) {
	n.t.Helper()
	ctx := n.t.Context()
	if n.tracer != nil {
		var span trace.Span
		ctx, span = n.tracer.Tracer("kubelet").Start(ctx, name)
		defer span.End()
	}
	if err := do(ctx); err != nil {
		n.t.Error(err)
	}
}

// end ends all that sends spans, and then has them all.
func (n *tracedNode) end() forest {
	n.kubelet.Close()
	n.tap.detach()
	nobodyStays(n.t)
	n.Stop()
	return n.Forest()
}

// live takes a pod through its life: an inline volume that mounts at the second try, a
// second container in a later round, and its end.
func (n *tracedNode) live() {
	n.driver.On(csi.Node_NodePublishVolume_FullMethodName, fakecri.Fail(codes.Internal, "not yet").Times(1))
	var pod *fakecri.RunningPod
	n.round("syncPod", func(ctx context.Context) (err error) {
		pod, err = n.kubelet.StartPod(ctx, fakecri.Pod{
			Namespace: "shop", Name: "web", Volumes: []fakecri.Volume{{Driver: n.driver.Name, Handle: "vol-1", PV: "pv-1", Ephemeral: true}},
		})
		return err
	})
	n.round("syncPod", func(ctx context.Context) error {
		made, err := n.kubelet.Runtime.CreateContainer(ctx, &cri.CreateContainerRequest{
			PodSandboxId: pod.SandboxID,
			Config:       &cri.ContainerConfig{Metadata: &cri.ContainerMetadata{Name: "sidecar"}, Image: &cri.ImageSpec{Image: "registry.example.com/team/app:1.27.3"}},
		})
		if err != nil {
			return err
		}
		_, err = n.kubelet.Runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: made.GetContainerId()})
		return err
	})
	// The two sockets are read each for itself, and no pod lives for milliseconds.
	n.tap.Wait("the volume", func(r Record) bool { return r.Method == "NodePublishVolume" && r.Code == "OK" })
	n.tap.Wait("the second container", func(r Record) bool { return r.Method == "StartContainer" && r.Container.Name == "sidecar" })
	n.round("syncTerminatingPod", func(ctx context.Context) error { return n.kubelet.StopPod(ctx, pod) })
}

// TestFakesNesting holds which span is under which, and links to which, when a
// pod starts and stops: docs/spans.md, "Native traces".
func TestFakesNesting(t *testing.T) {
	notSocat(t, "attaches to nothing")
	always, never, asCaller := sdk.AlwaysSample(), sdk.NeverSample(), sdk.ParentBased(sdk.AlwaysSample())
	unsampledStart := strings.Replace(podStart, "PodSandboxStatus ->", "PodSandboxStatus (under a span that nobody has) ->", 1)
	beside := "    runtime: %s\n"
	for name, c := range map[string]struct {
		kubelet, runtime sdk.Sampler
		want             string
	}{
		"neither":           {nil, nil, podStart + podStop},
		"runtime":           {nil, asCaller, podStart + podStop + runtimeAlone},
		"kubelet":           {always, nil, podStartNative + podStopNative + drawSyncs(syncs, "")},
		"both":              {always, asCaller, podStartNative + podStopNative + drawSyncs(syncs, beside)},
		"kubelet unsampled": {never, nil, unsampledStart + podStop},
		"both unsampled":    {never, asCaller, unsampledStart + podStop},
		"kubelet in part":   {sdk.ParentBased(roundsOf("syncTerminatingPod")), asCaller, unsampledStart + podStopNative + drawSyncs(syncs[2:], beside)},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTracedNode(t, c.kubelet, c.runtime)
			n.live()
			if got := n.end().draw(about); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
			for _, r := range n.tap.Records() {
				if traced := c.kubelet != nil && !strings.HasPrefix(r.Service, "csi."); r.NativeParent != traced {
					t.Errorf("native_parent is %v: %s", r.NativeParent, r)
				}
			}
		})
	}
}

// roundsOf samples the kubelet's rounds of one name.
type roundsOf string

func (name roundsOf) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	if p.Name == string(name) {
		return sdk.AlwaysSample().ShouldSample(p)
	}
	return sdk.NeverSample().ShouldSample(p)
}

func (name roundsOf) Description() string { return "rounds of " + string(name) }

// podStart and podStop are what is told of a pod whose calls nobody has sampled.
const podStart = `grpc-tap: pod start shop/web started, 8 calls, 1 failed
  grpc-tap: NodePublishVolume INTERNAL
  grpc-tap: pod start shop/web failing ERROR
  grpc-tap: NodePublishVolume
  grpc-tap: RunPodSandbox
  grpc-tap: PullImage
  grpc-tap: CreateContainer
  grpc-tap: StartContainer
  grpc-tap: CreateContainer
  grpc-tap: StartContainer
grpc-tap: PodSandboxStatus -> pod start shop/web
`

const podStop = `grpc-tap: pod stop shop/web stopped, 5 calls, 0 failed -> pod start shop/web
  grpc-tap: StopContainer -> pod start shop/web
  grpc-tap: StopPodSandbox -> pod start shop/web
  grpc-tap: NodeUnpublishVolume -> pod start shop/web
  grpc-tap: RemoveContainer -> pod start shop/web
  grpc-tap: RemovePodSandbox -> pod start shop/web
`

// podStartNative and podStopNative are the same where the kubelet has sampled its
// calls, which are all of CRI's. The roots link to the first of each round.
const podStartNative = `grpc-tap: pod start shop/web started, 8 calls, 1 failed -> CreateContainer, RunPodSandbox
  grpc-tap: NodePublishVolume INTERNAL
  grpc-tap: pod start shop/web failing ERROR
  grpc-tap: NodePublishVolume
`

const podStopNative = `grpc-tap: pod stop shop/web stopped, 5 calls, 0 failed -> StopContainer, pod start shop/web
  grpc-tap: NodeUnpublishVolume -> pod start shop/web
`

// syncs are the kubelet's rounds, with their calls.
var syncs = [][]string{
	{"syncPod", "RunPodSandbox", "PodSandboxStatus", "PullImage", "CreateContainer", "StartContainer"},
	{"syncPod", "CreateContainer", "StartContainer"},
	{"syncTerminatingPod", "StopContainer", "StopPodSandbox", "RemoveContainer", "RemovePodSandbox"},
}

// drawSyncs is what is told of them: of each call by the kubelet, below that
// by us, and beside us by the runtime if it has a line.
func drawSyncs(syncs [][]string, runtime string) string {
	var b strings.Builder
	for _, round := range syncs {
		fmt.Fprintf(&b, "kubelet: %s\n", round[0])
		for _, method := range round[1:] {
			fmt.Fprintf(&b, "  kubelet: %[1]s\n    grpc-tap: %[1]s -> pod start shop/web\n", method)
			b.WriteString(strings.ReplaceAll(runtime, "%s", method))
		}
	}
	return b.String()
}

// runtimeAlone is what a runtime tells of calls that it does not know to be traced.
const runtimeAlone = `runtime: RunPodSandbox
runtime: PodSandboxStatus
runtime: PullImage
runtime: CreateContainer
runtime: StartContainer
runtime: CreateContainer
runtime: StartContainer
runtime: StopContainer
runtime: StopPodSandbox
runtime: RemoveContainer
runtime: RemovePodSandbox
`
