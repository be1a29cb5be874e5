//go:build cluster

package e2e

import (
	"bytes"
	"encoding/hex"
	"maps"
	"path"
	"strings"
	"testing"
	"time"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// tracedPod is a pod, and what its start and its stop are to consist of.
type tracedPod struct {
	lab.Pod
	static   bool
	claims   []claimed
	start    string // the calls under its root
	stop     string
	linked   string // the calls that its root links to: whose they were was not known
	failures int64
}

// claimed is a claim to make for a pod.
type claimed struct {
	name, driver string
	attributes   map[string]string
}

const (
	oneContainer = "RunPodSandbox CreateContainer StartContainer"
	stopsOne     = "StopContainer StopPodSandbox"
)

var tracedPods = []tracedPod{
	{Pod: lab.Pod{Name: "static"}, static: true, start: oneContainer, stop: stopsOne},
	{
		Pod:    lab.Pod{Name: "claims", Pull: true, Volumes: []lab.Volume{{Name: "a", Claim: "claims-a"}, {Name: "b", Claim: "claims-b"}}},
		claims: []claimed{{"claims-a", told, nil}, {"claims-b", untold, nil}},
		start:  "NodeStageVolume NodeStageVolume NodePublishVolume NodePublishVolume PullImage " + oneContainer,
		stop:   stopsOne + " NodeUnpublishVolume NodeUnpublishVolume NodeUnstageVolume NodeUnstageVolume",
	},
	{
		Pod:   lab.Pod{Name: "inline", Volumes: []lab.Volume{{Name: "scratch", Driver: told}}},
		start: "NodePublishVolume " + oneContainer, stop: stopsOne + " NodeUnpublishVolume",
	},
	{
		Pod:    lab.Pod{Name: "fails-to-stage", Volumes: []lab.Volume{{Name: "a", Claim: "fails-to-stage"}}},
		claims: []claimed{{"fails-to-stage", untold, map[string]string{"failStage": "2"}}},
		start:  "NodeStageVolume NodePublishVolume " + oneContainer, linked: "NodeStageVolume NodeStageVolume", failures: 2,
		stop: stopsOne + " NodeUnpublishVolume NodeUnstageVolume",
	},
	{
		Pod:    lab.Pod{Name: "fails-to-publish", Volumes: []lab.Volume{{Name: "a", Claim: "fails-to-publish"}}},
		claims: []claimed{{"fails-to-publish", told, map[string]string{"failPublish": "2"}}},
		start:  "NodeStageVolume NodePublishVolume NodePublishVolume NodePublishVolume " + oneContainer, failures: 2,
		stop: stopsOne + " NodeUnpublishVolume NodeUnstageVolume",
	},
	{
		Pod: lab.Pod{Name: "many", Pull: true, Init: []string{"first"}, Containers: []string{"app", "log"}},
		start: "RunPodSandbox PullImage PullImage PullImage CreateContainer CreateContainer CreateContainer " +
			"StartContainer StartContainer StartContainer",
		stop: "StopContainer StopContainer StopPodSandbox",
	},
}

// quiet is how long nothing happens before a root is told.
const quiet = 20 * time.Second

// TestClusterTraces holds that each pod's start is one trace, and its stop another:
// with all calls that it took, under a root that says how it went.
func TestClusterTraces(t *testing.T) {
	c := newCluster(t)
	var names []string
	uids := map[string]string{}
	for _, p := range tracedPods {
		uids[p.Name] = c.start(p)
		names = append(names, p.name())
	}
	c.runs(names...)
	for _, p := range tracedPods {
		c.started(p, uids[p.Name])
	}
	for _, p := range tracedPods {
		if p.static {
			c.Remove(p.Pod)
		} else {
			c.api.Delete(p.Name)
		}
	}
	c.gone(names...)
	for _, p := range tracedPods {
		root := c.root("pod stop", p, "stopped", uids[p.Name])
		c.consists(root, p.stop, false)
		c.tidied(root, len(p.Init)+max(1, len(p.Containers)))
	}
	if strings.Contains(c.Log(), "code = Unavailable") {
		t.Error("the kubelet could not reach somebody")
	}
	c.Kubelet.Process.Stop(eventuallyTime)
	c.tap.detach()
	c.once(names)
	if said := c.tap.Complained(); len(said) > 0 {
		t.Errorf("it did not read all of it:\n%s", strings.Join(said, "\n"))
	}
}

// start puts a pod on the node, with its claims, and returns its UID, if that is known.
func (c *cluster) start(p tracedPod) (uid string) {
	c.t.Helper()
	for _, claim := range p.claims {
		c.claim(claim.name, claim.driver, claim.attributes)
	}
	if p.static {
		c.Put(p.Pod)
		return ""
	}
	return c.api.Create(p.Pod)
}

// started holds that a pod's start is told as it is to be.
func (c *cluster) started(p tracedPod, uid string) {
	c.t.Helper()
	for _, claim := range p.claims {
		c.mounted(claim)
	}
	root := c.root("pod start", p, "started", uid)
	c.consists(root, p.start, true)
	c.links(root, p.linked)
	if failed := attributes(root.GetAttributes())["grpc_tap.pod.failures"].GetIntValue(); failed != p.failures {
		c.t.Errorf("%s: %d failures, not %d", root.GetName(), failed, p.failures)
	}
}

// name is what the kubelet calls the pod.
func (p tracedPod) name() string {
	if p.static {
		return p.FullName()
	}
	return p.Name
}

// mounted waits until a container has written into a volume: not into its directory.
func (c *cluster) mounted(v claimed) {
	c.t.Helper()
	c.Until("volume "+v.name+" is mounted in the pod", eventuallyTime, func() bool {
		return !absent(c.r.Path("volumes-of", v.driver, "volumes", v.name, lab.Mark))
	})
}

// root waits for the root of a phase of a pod, which is told when nothing has
// happened for a while, and holds what it says.
func (c *cluster) root(kind string, p tracedPod, outcome, uid string) (root *trace.Span) {
	c.t.Helper()
	name := kind + " default/" + p.name()
	c.Until("there is a root "+name, time.Minute+eventuallyTime, func() bool {
		root = c.rootOf(name)
		return root != nil
	})
	says := attributes(root.GetAttributes())
	if got := says["grpc_tap.pod.outcome"].GetStringValue(); got != outcome {
		c.t.Errorf("%s: outcome %q, not %q", name, got, outcome)
	}
	if got := says["k8s.pod.uid"].GetStringValue(); got == "" || uid != "" && got != uid {
		c.t.Errorf("%s: of UID %q, not %q", name, got, uid)
	}
	return root
}

// rootOf is the root of this name, if it has been told.
func (c *cluster) rootOf(name string) *trace.Span {
	for _, s := range c.spans.Roots() {
		if s.GetName() == name {
			return s
		}
	}
	return nil
}

// consists holds that these calls, and with exactly no others, are under a root: in
// its trace, and within its time. Those that joined when it had been told do not count.
func (c *cluster) consists(root *trace.Span, calls string, exactly bool) {
	c.t.Helper()
	want, had := words(calls), map[string]int{}
	for _, s := range c.spans.Spans() {
		late := s.GetStartTimeUnixNano() > root.GetEndTimeUnixNano()+uint64(quiet)
		if late || !bytes.Equal(s.GetParentSpanId(), root.GetSpanId()) {
			continue
		}
		had[path.Base(s.GetName())]++
		if !bytes.Equal(s.GetTraceId(), root.GetTraceId()) {
			c.t.Errorf("%s: %s is of another trace", root.GetName(), s.GetName())
		}
		if s.GetStartTimeUnixNano() < root.GetStartTimeUnixNano() || s.GetEndTimeUnixNano() > root.GetEndTimeUnixNano() {
			c.t.Errorf("%s: %s is not within its time", root.GetName(), s.GetName())
		}
	}
	c.t.Logf("%s: %v, %v", root.GetName(), time.Duration(root.GetEndTimeUnixNano()-root.GetStartTimeUnixNano()), had)
	for method, n := range want {
		if had[method] < n {
			c.t.Errorf("%s: %d %s, not %d", root.GetName(), had[method], method, n)
		}
	}
	if exactly && !maps.Equal(want, had) {
		c.t.Errorf("%s consists of %v, not of %v", root.GetName(), had, want)
	}
}

// tidied waits until a pod's containers and its sandbox are removed, which the kubelet
// may leave to its next tidying up, once a minute: that is in the trace of the stop,
// also when its root has been told.
func (c *cluster) tidied(stop *trace.Span, containers int) {
	c.t.Helper()
	c.Until("all is removed under "+stop.GetName(), time.Minute+eventuallyTime, func() bool {
		n := map[string]int{}
		for _, s := range c.spans.Spans() {
			if bytes.Equal(s.GetTraceId(), stop.GetTraceId()) && bytes.Equal(s.GetParentSpanId(), stop.GetSpanId()) {
				n[path.Base(s.GetName())]++
			}
		}
		return n["RemoveContainer"] == containers && n["RemovePodSandbox"] > 0
	})
}

// links holds that a root links to these calls, each in a trace of its own.
func (c *cluster) links(root *trace.Span, calls string) {
	c.t.Helper()
	had := map[string]int{}
	spans := c.spans.Spans()
	for _, link := range root.GetLinks() {
		s := spans[hex.EncodeToString(link.GetSpanId())]
		had[path.Base(s.GetName())]++
		if len(s.GetParentSpanId()) > 0 || !bytes.Equal(s.GetTraceId(), link.GetTraceId()) {
			c.t.Errorf("%s links to %s, which is not a trace of its own", root.GetName(), s)
		}
	}
	if want := words(calls); !maps.Equal(want, had) {
		c.t.Errorf("%s links to %v, not to %v", root.GetName(), had, want)
	}
}

// once holds that the roots told are those of these pods' starts and stops.
func (c *cluster) once(names []string) {
	c.t.Helper()
	want, had := map[string]int{}, map[string]int{}
	for _, name := range names {
		want["pod start default/"+name]++
		want["pod stop default/"+name]++
	}
	for _, s := range c.spans.Roots() {
		if !strings.HasSuffix(s.GetName(), " failing") {
			had[s.GetName()]++
		}
	}
	if !maps.Equal(want, had) {
		c.t.Errorf("the roots are %v, not %v", had, want)
	}
}

// words counts the words of a text.
func words(text string) map[string]int {
	n := map[string]int{}
	for _, word := range strings.Fields(text) {
		n[word]++
	}
	return n
}
