//go:build cluster

package e2e

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// churning is a kind of pods that come and go, one after the other.
type churning struct {
	name    string
	volumes []lab.Volume

	pod string // that is there; empty: none
	n   int    // pods so far
}

// TestClusterChurn creates and deletes pods for as long as CHURN says, and counts the
// calls about one pod whose record does not name it.
func TestClusterChurn(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("CHURN"))
	if err != nil {
		t.Fatalf("CHURN is to say for how long: %v", err)
	}
	c := newCluster(t)
	c.claim("churn-told", told, nil)
	c.claim("churn-untold", untold, nil)
	kinds := []*churning{
		{name: "plain"},
		{name: "told", volumes: []lab.Volume{{Name: "data", Claim: "churn-told"}}},
		{name: "untold", volumes: []lab.Volume{{Name: "data", Claim: "churn-untold"}}},
		{name: "inline", volumes: []lab.Volume{{Name: "data", Driver: told}}},
	}
	c.Put(lab.Pod{Name: "static"}) // which is there all the time
	end := time.Now().Add(length)
	pace := time.NewTicker(200 * time.Millisecond) // of looking at what there is
	defer pace.Stop()
	for ; time.Now().Before(end); <-pace.C {
		pods := c.api.Pods()
		for _, k := range kinds {
			c.turn(k, pods)
		}
	}
	for _, k := range kinds {
		c.api.Delete(k.pod)
		c.gone(k.pod)
	}
	c.Kubelet.Process.Stop(eventuallyTime)
	c.tap.detach()
	c.onceEach(kinds)
	c.checkNamed(length, kinds)
	if said := c.tap.Complained(); len(said) > 0 {
		t.Errorf("it did not read all of it:\n%s", strings.Join(said, "\n"))
	}
}

// turn creates a kind's next pod if none is there, and deletes it once it runs.
func (c *cluster) turn(k *churning, pods map[string]lab.PodState) {
	c.t.Helper()
	p, is := pods[k.pod]
	switch {
	case !is:
		k.n++
		k.pod = fmt.Sprintf("%s-%d", k.name, k.n)
		c.api.Create(lab.Pod{Name: k.pod, Volumes: k.volumes})
	case p.Runs() && p.Metadata.DeletionTimestamp == nil:
		c.api.Delete(k.pod)
	}
}

// onceEach holds that each pod's start and stop were told once, and how they went.
func (c *cluster) onceEach(kinds []*churning) {
	c.t.Helper()
	had := map[string]int{}
	for _, s := range c.spans.Roots() {
		had[s.GetName()+" "+attributes(s.GetAttributes())["grpc_tap.pod.outcome"].GetStringValue()]++
	}
	had["pod start default/static-lab started"]--
	for _, k := range kinds {
		for n := range k.n {
			pod := fmt.Sprintf("default/%s-%d", k.name, n+1)
			had["pod start "+pod+" started"]--
			had["pod stop "+pod+" stopped"]--
		}
	}
	for root, n := range had {
		if n != 0 {
			c.t.Errorf("root %s: %+d", root, n)
		}
	}
}

// checkNamed holds that the calls about a pod name it, and says which do not.
func (c *cluster) checkNamed(length time.Duration, kinds []*churning) {
	c.t.Helper()
	pods := 0
	for _, k := range kinds {
		pods += k.n
	}
	n := countNamed(c.t, c.tap.Stdout)
	c.t.Logf("%d pods in %v; %d of %d calls about a pod name it: %.2f %%", pods, length, n.calls-len(n.lacks), n.calls, 100*n.share())
	byKind := map[string][]lack{}
	for _, l := range n.lacks {
		byKind[l.kind] = append(byKind[l.kind], l)
	}
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		c.t.Logf("%5d %s; such as %s", len(byKind[kind]), kind, byKind[kind][0].line)
	}
	if pods < int(length/(5*time.Second)) || n.calls < 10*pods {
		c.t.Errorf("too few to say anything: %d pods, %d calls", pods, n.calls)
	}
	if n.share() < 0.99 {
		c.t.Errorf("only %.2f %% of the calls about a pod carry its name, namespace and UID", 100*n.share())
	}
}
