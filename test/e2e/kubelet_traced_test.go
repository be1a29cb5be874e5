//go:build kubelet

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// tracedKubelet is a kubelet that traces itself, on a containerd that does too if
// it can, with grpc-tap between them. All spans go to one collector.
type tracedKubelet struct {
	*kubeletLife
	*Collector
	tap *Tap
}

func newTracedKubelet(t *testing.T, samplingRatePerMillion string) *tracedKubelet {
	notSocat(t, "tells nothing")
	c, in := NewCollector(t), lab.New(t)
	address := c.ServeIn(in, "127.0.0.1:0")
	r := in.Containerd(lab.Options{Env: lab.TracingTo(address)})
	tap := Proxy(t, r.Socket, "--otlp-endpoint", c.Address, "--otlp-insecure")
	k := r.Kubelet(tap.Listen, "tracing: {endpoint: '"+address+"', samplingRatePerMillion: "+samplingRatePerMillion+"}")
	t.Logf("kubelet on containerd %s, which can trace: %v", r.Version, r.Traces())
	return &tracedKubelet{&kubeletLife{Kubelet: k, r: r, t: t}, c, tap}
}

// live takes a pod through its life.
func (k *tracedKubelet) live() *kubeletPod {
	k.t.Helper()
	p := k.run(lab.Pod{Name: "own"})
	k.remove(p)
	k.checkTold(k.tap, p, "RunPodSandbox", "CreateContainer", "StartContainer", "StopContainer", "StopPodSandbox")
	return p
}

// end ends the kubelet, and then the tap, which tells what it has.
func (k *tracedKubelet) end() forest {
	k.t.Helper()
	if err := k.Process.Stop(eventuallyTime); err != nil {
		k.t.Errorf("the kubelet, told to end by SIGTERM: %v", err)
	}
	k.tap.Stop()
	return k.Forest()
}

// TestKubeletTraced holds where our spans are beside those of a kubelet that
// traces itself, and of a containerd that does too if it can: docs/spans.md,
// "Native traces".
func TestKubeletTraced(t *testing.T) {
	k := newTracedKubelet(t, "1000000")
	p := k.live()
	// The kubelet and containerd send what they have every five seconds.
	eventually(t, "all that is above and beside the pod's calls", func() bool {
		f := k.Forest()
		calls := f.where("grpc-tap", changesPod)
		return len(calls) >= 5 && !slices.ContainsFunc(calls, func(s *tree) bool { return !f.isNested(s, k.r.Traces()) })
	})
	f := k.end()
	for _, s := range f.where("grpc-tap", changesPod) {
		if to := f.links(s); !slices.Equal(to, []string{"pod start default/" + p.FullName()}) {
			t.Errorf("%s links to %q", s, to)
		}
	}
	f.checkRoot(t, "pod start default/"+p.FullName(), " started, 3 calls, 0 failed -> RunPodSandbox")
	f.checkRoot(t, "pod stop default/"+p.FullName(), " stopped, ")
	if t.Failed() {
		t.Logf("all spans:\n%s", f.draw(func(*tree) bool { return true }))
	}
}

// TestKubeletTracedUnsampled has the kubelet sample none of its calls, which it
// says on the wire: they are in their pod's trace, as if it did not trace.
func TestKubeletTracedUnsampled(t *testing.T) {
	k := newTracedKubelet(t, "0")
	p := k.live()
	f := k.end()
	start, stop := "pod start default/"+p.FullName(), "pod stop default/"+p.FullName()
	f.checkRoot(t, start, " started, 3 calls, 0 failed")
	f.checkRoot(t, stop, " stopped, ")
	for _, s := range f.where("grpc-tap", changesPod) {
		if root := f.parent(s); root == nil || root.GetName() != start && root.GetName() != stop {
			t.Errorf("%s is not in its pod's trace", s)
		}
	}
	for _, r := range k.tap.Records() {
		if r.Caller.PID == k.PID() && !r.NativeParent {
			t.Errorf("its caller has sent no traceparent: %s", r)
		}
	}
	if sampled := f.where("kubelet", func(*tree) bool { return true }); len(sampled) > 0 {
		t.Errorf("the kubelet has sampled %v", sampled)
	}
}

// checkRoot holds that a pod has one root of a name, and how that begins to tell
// how it went.
func (f forest) checkRoot(t *testing.T, name, want string) {
	t.Helper()
	roots := f.where("grpc-tap", func(s *tree) bool { return s.GetName() == name })
	if len(roots) != 1 {
		t.Errorf("%d roots named %q", len(roots), name)
		return
	}
	if got := roots[0].outcome() + " -> " + strings.Join(f.links(roots[0]), ", "); !strings.HasPrefix(got, want) {
		t.Errorf("%s%s, not%s", name, got, want)
	}
}

// isNested says whether our span of a call is under the kubelet's, that one under
// the kubelet's round for this pod, and containerd's span, if there is to be one,
// beside ours. What is removed at leisure is in no round.
func (f forest) isNested(s *tree, besideContainerd bool) bool {
	its := f.parent(s)
	if its == nil || its.from != "kubelet" || its.String() != s.String() {
		return false
	}
	beside := slices.ContainsFunc(its.children, func(c *tree) bool { return c.from == "containerd" && c.String() == s.String() })
	round := f.parent(its)
	inRound := round != nil && strings.HasPrefix(round.GetName(), "sync") && round.is("k8s.pod.uid") == s.is("k8s.pod.uid")
	return beside == besideContainerd && (inRound || strings.HasPrefix(s.String(), "Remove"))
}
