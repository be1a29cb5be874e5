//go:build kubelet

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// turnover is a kubelet that starts and stops pods while relay and taps come and
// go.
type turnover struct {
	*kubeletLife
	relay *standing
	tap   *Tap

	first   *kubeletPod     // runs from the beginning to the end
	last    *kubeletPod     // runs until the next turn
	turns   int             // pods so far
	unnamed int             // calls that ended a pod and are told without its name
	direct  map[string]bool // the calls that fail without grpc-tap
	mounts  []string        // with the first pod alone
	from    int             // where that part of the kubelet's log begins that must be fine
	took    map[string]time.Duration
}

// newTurnover starts a kubelet that grpc-tap has not come to yet, and takes a pod
// through its life.
func newTurnover(t *testing.T, at func(*lab.Runtime) string) *turnover {
	t.Helper()
	k := &turnover{kubeletLife: newKubeletLife(t, at), took: map[string]time.Duration{}}
	k.first = k.run(lab.Pod{Name: "first"})
	k.mounts = k.r.Mounts()
	k.last = k.run(lab.Pod{Name: "last"})
	k.turn("direct", nothing)
	k.direct = k.failures()
	return k
}

// turn has something happen while a pod starts and another one stops.
func (k *turnover) turn(name string, happens func()) (began, ended *kubeletPod) {
	k.t.Helper()
	k.turns++
	began, ended = &kubeletPod{Pod: lab.Pod{Name: fmt.Sprintf("%s-%d", name, k.turns)}}, k.last
	k.Put(began.Pod)
	k.Remove(ended.Pod)
	happens()
	began.sandbox, began.container = k.Running(began.Pod)
	k.Gone(ended.Pod)
	k.last = began
	return began, ended
}

func nothing() {}

// decoded waits for the kubelet's polls that began after since.
func (k *turnover) decoded(since time.Time) {
	k.t.Helper()
	for _, method := range []string{"ListPodSandbox", "ListContainers"} {
		k.tap.Until("the kubelet's "+method+" is told", eventuallyTime, func() bool {
			return slices.ContainsFunc(k.tap.Records(), func(r Record) bool {
				return r.Method == method && r.Caller.PID == k.PID() && r.Start.After(since)
			})
		})
	}
}

// told holds that pods are told: how one starts, and how one ends whose start
// the tap may not have seen.
func (k *turnover) told() {
	k.t.Helper()
	since := time.Now()
	began, ended := k.turn("told", nothing)
	k.checkTold(k.tap, began, "RunPodSandbox", "CreateContainer", "StartContainer")
	k.checkEnded(ended)
	k.tap.Wait("a call on the kubelet's other connection", func(r Record) bool {
		return r.Method == "ImageStatus" && r.Caller.PID == k.PID() && r.Start.After(since)
	})
}

// checkEnded holds that the end of a pod is told, and as nobody else's. Who it was
// is known if one of its status calls was seen: that is counted.
func (k *turnover) checkEnded(p *kubeletPod) {
	k.t.Helper()
	for _, r := range []Record{
		k.tap.Wait("StopContainer", func(r Record) bool { return r.Method == "StopContainer" && r.Container.ID == p.container }),
		k.tap.Wait("StopPodSandbox", func(r Record) bool { return r.Method == "StopPodSandbox" && r.SandboxID == p.sandbox }),
	} {
		if r.Pod.Name != "" && r.Pod.Name != p.FullName() || r.Code != "OK" {
			k.t.Errorf("not told as of pod %s: %s", p.FullName(), r)
		}
		if r.Pod.Name == "" {
			k.unnamed++
		}
	}
}

// log is what the kubelet has logged that must be fine.
func (k *turnover) log() string { return k.Log()[k.from:] }

// fine holds that no call failed that does not without grpc-tap, and that nothing
// was started anew.
func (k *turnover) fine() {
	k.t.Helper()
	for failed := range failuresIn(k.log()) {
		if !k.direct[failed] {
			k.t.Errorf("the kubelet logs as failed: %s", failed)
		}
	}
	for _, line := range carriersFaults(gaveUp.ReplaceAllString(k.log(), "")) {
		k.t.Errorf("the kubelet logs: %s", line)
	}
	if sandbox, container := k.Running(k.first.Pod); sandbox != k.first.sandbox || container != k.first.container {
		k.t.Errorf("the first pod was started anew: it was %s in %s, and is %s in %s", k.first.container, k.first.sandbox, container, sandbox)
	}
	for _, again := range k.Restarted() {
		k.t.Errorf("started anew: %s", again)
	}
}

// processes holds that there is one relay, and one tap.
func (k *turnover) processes() {
	k.t.Helper()
	want := []int{k.relay.PID(), k.tap.PID()}
	slices.Sort(want)
	eventually(k.t, "one relay and one tap run", func() bool {
		now := k.relay.lab.Processes()
		slices.Sort(now)
		return slices.Equal(now, want)
	})
}

// end removes all pods but the first, and holds that nothing of them is left.
func (k *turnover) end() {
	k.t.Helper()
	k.remove(k.last)
	k.fine()
	eventually(k.t, "no mount is left", func() bool { return slices.Equal(k.r.Mounts(), k.mounts) })
}
