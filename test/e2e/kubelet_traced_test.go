//go:build kubelet

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestKubeletTraced holds where our spans are beside those of a kubelet that
// traces itself, and of a containerd that does too if it can: docs/spans.md,
// "Native traces".
func TestKubeletTraced(t *testing.T) {
	if binary == "" {
		t.Skip("socat tells nothing")
	}
	collector, in := NewCollector(t), lab.New(t)
	address := collector.ServeIn(in)
	r := in.Containerd(lab.Options{Env: lab.TracingTo(address)})
	tap := Proxy(t, r.Socket, "--otlp-endpoint", collector.Address, "--otlp-insecure")
	k := r.Kubelet(tap.Listen, "tracing: {endpoint: '"+address+"', samplingRatePerMillion: 1000000}")
	l := &kubeletLife{Kubelet: k, r: r, t: t}
	t.Logf("kubelet on containerd %s, which can trace: %v", r.Version, r.Traces())
	p := l.run(lab.Pod{Name: "own"})
	l.remove(p)
	l.checkTold(tap, p, "RunPodSandbox", "CreateContainer", "StartContainer", "StopContainer", "StopPodSandbox")

	// The kubelet and containerd send what they have every five seconds.
	var f forest
	eventually(t, "all that is above and beside the pod's calls", func() bool {
		f = collector.Forest()
		calls := f.where("grpc-tap", changesPod)
		return len(calls) >= 5 && !slices.ContainsFunc(calls, func(s *tree) bool { return !f.isNested(s, r.Traces()) })
	})
	if err := l.Process.Stop(eventuallyTime); err != nil {
		t.Errorf("the kubelet, told to end by SIGTERM: %v", err)
	}
	tap.Stop()
	f = collector.Forest()
	for _, s := range f.where("grpc-tap", changesPod) {
		if to := f.links(s); !slices.Equal(to, []string{"pod start default/" + p.FullName()}) {
			t.Errorf("%s links to %q", s, to)
		}
	}
	for name, want := range map[string]string{
		"pod start default/" + p.FullName(): " started, 3 calls, 0 failed -> RunPodSandbox",
		"pod stop default/" + p.FullName():  " stopped, ",
	} {
		roots := f.where("grpc-tap", func(s *tree) bool { return s.GetName() == name })
		if len(roots) != 1 {
			t.Errorf("%d roots named %q", len(roots), name)
		} else if got := roots[0].outcome() + " -> " + strings.Join(f.links(roots[0]), ", "); !strings.HasPrefix(got, want) {
			t.Errorf("%s%s, not%s", name, got, want)
		}
	}
	if t.Failed() {
		t.Logf("all spans:\n%s", f.draw(func(*tree) bool { return true }))
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
