//go:build cluster

package e2e

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// inline is a pod with a volume of its own.
func inline(name string) tracedPod {
	return tracedPod{
		Pod:   lab.Pod{Name: name, Volumes: []lab.Volume{{Name: "scratch", Driver: told}}},
		start: "NodePublishVolume " + oneContainer,
	}
}

var failsToPublish = tracedPod{
	Pod:    lab.Pod{Name: "fails", Volumes: []lab.Volume{{Name: "a", Claim: "fails"}}},
	claims: []claimed{{"fails", told, map[string]string{"failPublish": "2"}}},
	start:  "NodeStageVolume NodePublishVolume NodePublishVolume NodePublishVolume " + oneContainer, failures: 2,
}

// TestClusterAgent has the manifests' own pods on a node that runs pods, from kubectl
// apply to kubectl delete: the agent traces into a real collector, which comes and goes,
// is restarted and upgraded, and goes. All of it is under load, of which no call fails,
// and leaves the node as before.
func TestClusterAgent(t *testing.T) {
	notSocat(t, "is no agent")
	l := lab.New(t)
	l.Shared("run")
	c := untapped(t, l, lab.Options{Socket: "run/containerd.sock", Images: append(agentImages(t), collectorImages(t)...)})
	paths := []string{c.r.Socket, c.driver(told, true)}
	ofNobody(t, paths[1])
	c.node(told)
	c.api.Controllers()
	c.validate()
	c.start(inline("before"))
	c.runs("before")

	k := c.collector()
	d := c.daemonSet(paths)
	d.applied()
	for _, p := range []tracedPod{inline("traced"), failsToPublish} {
		c.runsTraced(p)
	}
	k.toldOf("traced", "fails")
	d.outlives(k)
	c.runsTraced(inline("again"))
	d.restarted()
	d.upgraded()
	c.runsTraced(inline("after"))
	k.toldOf("again", "after")
	d.deleted()
	k.passedOn()

	c.runs("before", "traced", "fails", "again", "after")
	if again := c.Restarted(); len(again) > 0 {
		t.Errorf("started anew: %v", again)
	}
	if strings.Contains(c.Log(), "code = Unavailable") {
		t.Error("the kubelet could not reach somebody")
	}
	if host := c.spans.Resource("k8s.node.name"); host != "lab" {
		t.Errorf("the spans are of node %q", host)
	}
}

// ofNobody makes a socket and its directory those of a driver that does not run as
// root, and has them to itself: some of the pod's capabilities are for such.
func ofNobody(t *testing.T, socket string) {
	t.Helper()
	const nobody = 65534
	dir := filepath.Dir(socket)
	if err := errors.Join(os.Chmod(socket, 0o600), os.Chmod(dir, 0o700), os.Chown(socket, nobody, nobody), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
}

// runsTraced runs a pod whose start is told.
func (c *cluster) runsTraced(p tracedPod) {
	c.t.Helper()
	uid := c.start(p)
	c.runs(p.Name)
	c.started(p, uid)
}

// applied applies the manifests: a relay stands on each path, and the kubelet's older
// connection is moved. Under load it would not be: that begins now.
func (d *daemonSet) applied() {
	d.c.t.Helper()
	for _, path := range d.paths {
		d.was = append(d.was, lookAt(d.c.t, path))
	}
	d.c.api.Kubectl("apply", "-k", d.overlay)
	d.rolled()
	for _, path := range d.paths {
		d.relays = append(d.relays, d.relay(path))
	}
	d.says("on "+d.paths[1]+", relayed by pid", " moved, and ")
	if strings.Contains(d.log(), " not moved, and ") { // for what else runs on this machine
		d.c.t.Log("the kubelet is started anew to be seen")
		if err := d.c.Kubelet.Process.Stop(eventuallyTime); err != nil {
			d.c.t.Error(err)
		}
		d.c.StartAgain()
	}
	d.loads = []*load{runtimeTraffic(d.c.t, d.paths[0]), driverTraffic(d.c.t, d.paths[1])}
	d.fine()
}

// outlives has the collector be rolled out, and then be away for longer than the agent
// keeps trying: what the agent says it has sent has arrived, and the rest is counted.
func (d *daemonSet) outlives(k *realCollector) {
	t := d.c.t
	t.Helper()
	k.restarted()
	d.fine()
	k.goes()
	page := d.page(9464)
	d.c.Until("spans are dropped, and counted", 2*eventuallyTime, func() bool {
		return page.value("grpc_tap_spans_dropped_total", "reason", "export_failed") > 0
	})
	d.fine()
	if sent, arrived := page.value("grpc_tap_spans_exported_total"), k.before; sent != float64(arrived) {
		t.Errorf("%v spans are said to be sent, and %d have arrived", sent, arrived)
	}
	k.comes()
	d.says("spans are exported again")
	d.fine()
}

// restarted rolls out the same version: its relays stay.
func (d *daemonSet) restarted() {
	d.c.t.Helper()
	for i, path := range d.paths {
		// A guard takes a relay for hung that the machine lets wait for a second.
		if pid := d.relay(path); pid != d.relays[i] {
			d.c.t.Logf("%s: the relay was %d, and is %d: %v", path, d.relays[i], pid, d.page(9464).scrape()["grpc_tap_takeovers_total"])
			d.relays[i] = pid
		}
	}
	d.workload.restarted()
	d.says("on "+d.paths[0]+", relayed by pid", "on "+d.paths[1]+", relayed by pid")
	d.fine()
	for i, path := range d.paths {
		if pid := d.relay(path); pid != d.relays[i] {
			d.c.t.Errorf("%s: the relay was %d, and is %d", path, d.relays[i], pid)
		}
	}
}

// upgraded rolls out another version: relays of its own take the place of the others.
func (d *daemonSet) upgraded() {
	d.c.t.Helper()
	d.kubectl("set", "image", "daemonset/grpc-tap", "agent="+agentImage+":two")
	d.rolled()
	for i, path := range d.paths {
		d.c.Until("a relay of the new version stands on "+path, 2*eventuallyTime, func() bool { return by(d.c.t, path) != d.relays[i] })
		d.relay(path)
		// A call that is made past the new one is not seen.
		d.c.Until("nobody is left at the old relay of "+path, 2*eventuallyTime, func() bool {
			return !slices.Contains(d.processes(), d.relays[i])
		})
	}
	d.fine()
}

// deleted deletes all of the manifests: the relays end by their lease, and leave nothing.
func (d *daemonSet) deleted() {
	t := d.c.t
	t.Helper()
	d.c.api.Kubectl("delete", "-k", d.overlay, "--timeout=2m")
	d.fine()
	d.c.Until("the relays have ended", time.Minute, func() bool { return len(d.processes()) == 0 })
	for _, l := range d.loads {
		l.more(20)
		l.end()
		t.Logf("%d calls, none failed", l.done.Load())
	}
	for i, path := range d.paths {
		if now := lookAt(t, path); now != d.was[i] {
			t.Errorf("%s was %+v, and is %+v", path, d.was[i], now)
		}
	}
	if !absent(d.hostDir) {
		t.Errorf("%s is left on the node", d.hostDir)
	}
	// Until the node's next boot: for who wants to know how it was, or comes back.
	left := slices.DeleteFunc(filesBelow(t, d.c.r.Path("run/grpc-tap")), func(name string) bool {
		return name == "pods" || name == "sent-off" || path.Dir(name) == "log"
	})
	if len(left) > 0 {
		t.Errorf("left in /run: %v", left)
	}
}
