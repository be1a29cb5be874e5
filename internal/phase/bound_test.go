package phase

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// hostile places the calls of a pod that has so many of each thing, called as long as is
// remembered.
func hostile(t *Tracker, i, each int, now time.Time) {
	long := func(kind string, j, n int) string { return fmt.Sprintf("%s-%d-%d-%0*d", kind, i, j, n-30, 0) }
	place := func(service, method string, r call.Record) {
		r.Service, r.Method, r.Start, r.State, r.DurationMS = service, method, now, call.Done, 1
		r.Pod = call.Pod{Namespace: "shop", Name: "web", UID: long("pod", 0, maxID)}
		if r.Code == "" {
			r.Code = "OK"
		}
		t.Place(&r)
	}
	const runtimes, images, node = "runtime.v1.RuntimeService", "runtime.v1.ImageService", "csi.v1.Node"
	message := strings.Repeat("x", maxFirst)
	for j := range each {
		c := call.Container{ID: long("c", j, maxID), Name: long("name", j, maxText)}
		place(runtimes, "RunPodSandbox", call.Record{SandboxID: long("s", j, maxID)})
		place(runtimes, "CreateContainer", call.Record{Container: c})
		place(images, "PullImage", call.Record{Image: long("image", j, maxText), Code: "UNKNOWN", Message: message})
		path := strings.Repeat("/d", 2000) + long("pv", j, maxText)
		place(node, "NodePublishVolume", call.Record{
			Volume: call.Volume{ID: long("v", j, maxID), PV: path[4000:]}, Code: "UNKNOWN", Message: strings.Clone(message)})
	}
	place(runtimes, "StartContainer", call.Record{Container: call.Container{ID: "c", Name: "c"}})
	for j := range each {
		c := call.Container{ID: long("c", j, maxID), Name: long("stop", j, maxText)}
		place(runtimes, "StopContainer", call.Record{Container: c, Code: "UNKNOWN", Message: strings.Clone(message)})
	}
}

// TestHostileMemory: whatever passes, a Tracker takes a part only of the memory that the
// DaemonSet's pod may have, and who had to go is counted, and told before.
func TestHostileMemory(t *testing.T) {
	for _, c := range []struct{ pods, of int }{{150, 240}, {2500, 3}} {
		before := heap()
		tracker, _ := New(boot, nil)
		told := 0
		for i := range c.pods {
			hostile(tracker, i, c.of, midnight)
			if i%64 == 0 || i == c.pods-1 {
				ended, _ := tracker.Tick(midnight)
				told += len(ended)
			}
		}
		held, st := heap()-before, tracker.Stats()
		t.Logf("%d pods with %d of each: %d MiB, %d remembered", c.pods, c.of, held>>20, len(tracker.pods))
		if held > 64<<20 {
			t.Errorf("%d MiB", held>>20)
		}
		if len(tracker.pods)+int(st.Evicted) != c.pods || told != 2*int(st.Evicted) {
			t.Errorf("of %d pods %d are remembered and %d had to go, of whom %d starts and stops were told", c.pods, len(tracker.pods), st.Evicted, told)
		}
		runtime.KeepAlive(tracker)
	}
}
