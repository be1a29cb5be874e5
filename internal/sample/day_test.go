package sample_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/phase"
	"github.com/grpc-tap/grpc-tap/internal/sample"
)

// TestDay is a day of a node of 110 pods, by what the kubelet does: at least 95 %
// fewer spans than calls, no error lost, each pod's start and stop whole, and
// nothing uncounted. go test -v -run TestDay ./internal/sample prints the figures.
func TestDay(t *testing.T) {
	d := newDay(t, 10_000)
	for second := range 24 * 60 * 60 {
		d.second(second)
	}
	d.tell(d.pods.Close(d.now))

	st := d.sampler.Stats()
	kept := uint64(0)
	for _, n := range st.Kept {
		kept += n
	}
	spans := kept + uint64(d.roots)
	less := 100 * (1 - float64(spans)/float64(d.calls))
	t.Logf("%d calls, %d spans (%d of them roots and notices): %.1f %% fewer", d.calls, spans, d.roots, less)
	t.Logf("%d failed; %d pods started, %d stopped", d.failed, d.phases[call.PodStart], d.phases[call.PodStop])
	for _, why := range slices.Sorted(maps.Keys(st.Kept)) {
		t.Logf("%8d %s", st.Kept[why], why)
	}
	t.Logf("%8d dropped", st.Dropped)

	if less < 95 {
		t.Errorf("%.1f %% fewer spans than calls", less)
	}
	if kept != d.kept || st.Dropped != d.calls-d.kept {
		t.Errorf("%d kept and %d dropped are counted; of %d calls %d were kept", kept, st.Dropped, d.calls, d.kept)
	}
	if st.Kept[sample.Failed] != d.failed || d.failed < 500 {
		t.Errorf("%d failures are counted of %d", st.Kept[sample.Failed], d.failed)
	}
	if n := d.phases[call.PodStart]; n < 400 || d.phases[call.PodStop] < 400 {
		t.Errorf("too few pods started and stopped: %v", d.phases)
	}
	if st.Kept[sample.Slow] == 0 || st.Kept[sample.Exit] == 0 || st.Kept[sample.Share] == 0 {
		t.Errorf("nothing is kept for one of the reasons: %v", st.Kept)
	}
}

// day plays the calls of a day.
type day struct {
	t       *testing.T
	sampler *sample.Sampler
	pods    *phase.Tracker
	rand    *rand.Rand
	now     time.Time
	hard    float64 // how much longer than usual all takes

	calls, kept, failed uint64
	inTrace             map[string]int // calls of a pod's trace that were kept, by root
	phases              map[call.PhaseKind]int
	roots               int // and notices

	live   []call.Pod // that came and will go
	serial int
}

func newDay(t *testing.T, rate int) *day {
	t.Helper()
	s, err := sample.New(sample.Options{RatePerMillion: rate})
	if err != nil {
		t.Fatal(err)
	}
	pods, err := phase.New("boot", nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &day{
		t: t, sampler: s, pods: pods, rand: rand.New(rand.NewPCG(1, 2)), inTrace: map[string]int{}, phases: map[call.PhaseKind]int{},
	}
	for i := range 110 {
		pods.Ran(old(i), id("sandbox", i), "main", true)
	}
	return d
}

// old is one of the pods that run all day.
func old(i int) call.Pod {
	return call.Pod{Namespace: "shop", Name: fmt.Sprint("web-", i), UID: fmt.Sprint("uid-", i)}
}

func id(kind string, n int) string { return fmt.Sprintf("%s-%064d", kind, n) }

const (
	cri, image, node, identity = "runtime.v1.RuntimeService", "runtime.v1.ImageService", "csi.v1.Node", "csi.v1.Identity"
)

// second is what happens in one. Periods are the kubelet's.
func (d *day) second(n int) {
	d.now = time.Date(2026, 10, 5, 0, 0, n, 0, time.UTC)
	d.hard = 1
	if hour := n / 3600; hour == 14 { // the disk is busy
		d.hard = 20
	}
	every := func(seconds, offset int) bool { return (n+offset)%seconds == 0 }

	d.poll(cri, "ListPodSandbox", 3)
	d.poll(cri, "ListContainers", 5)
	if every(5, 0) {
		d.poll(cri, "Status", 1)
	}
	if every(10, 1) {
		d.poll(image, "ImageFsInfo", 1)
		d.poll(identity, "Probe", 1)
	}
	if every(30, 2) {
		d.poll(image, "ListImages", 4)
	}
	if every(60, 3) {
		d.poll(cri, "Version", 1)
	}
	for i := range 110 {
		if i%3 == 0 && every(10, i) {
			d.probe(i, n)
		}
		if i%2 == 0 && every(60, i) {
			d.poll(node, "NodeGetCapabilities", 1)
			d.poll(node, "NodeGetVolumeStats", 2)
		}
		if i%10 == 0 && every(60, i+7) { // requiresRepublish
			d.poll(node, "NodeGetCapabilities", 1)
			d.publish(old(i), 8, "OK")
		}
		if i == 7 && every(300, 0) { // crashes as soon as it runs
			d.ofPod(old(i), cri, "CreateContainer", 90, "OK")
			d.ofPod(old(i), cri, "StartContainer", 40, "OK")
			d.ofPod(old(i), cri, "ContainerStatus", 1, "OK")
			d.ofPod(old(i), cri, "RemoveContainer", 20, "OK")
		}
	}
	if every(180, 0) {
		d.start()
	}
	if every(180, 90) && len(d.live) > 10 {
		d.stop()
	}
	d.tell(d.pods.Tick(d.now))
}

// probe is an exec probe: one pod's fails for six hours, and now and then another's.
func (d *day) probe(i, second int) {
	exit := int32(0)
	if i == 9 && second/3600 >= 6 && second/3600 < 12 || d.rand.IntN(500) == 0 {
		exit = 1
	}
	d.ends(&call.Record{Service: cri, Method: "ExecSync", Code: "OK", Pod: old(i), Container: call.Container{ID: id("container", i), Name: "main"}, ExitCode: &exit}, 60)
}

// poll fails now and then.
func (d *day) poll(service, method string, ms float64) {
	code := "OK"
	if d.rand.IntN(1000) == 0 {
		code = []string{"UNAVAILABLE", "DEADLINE_EXCEEDED", "NOT_FOUND", ""}[d.rand.IntN(4)]
	}
	d.ends(&call.Record{Service: service, Method: method, Code: code}, ms)
}

func (d *day) ofPod(p call.Pod, service, method string, ms float64, code string) {
	d.ends(&call.Record{
		Service: service, Method: method, Code: code, Pod: p, SandboxID: "sandbox-" + p.UID, Image: "app:1",
		Container: call.Container{ID: "container-" + p.UID, Name: "main"},
	}, ms)
}

func (d *day) publish(p call.Pod, ms float64, code string) {
	d.ends(&call.Record{
		Service: node, Method: "NodePublishVolume", Code: code, Pod: p,
		Volume: call.Volume{ID: "volume-" + p.UID, Path: "/pods/" + p.UID + "/mount"},
	}, ms)
}

// start is a pod's. One in eight has trouble.
func (d *day) start() {
	d.serial++
	p := call.Pod{Namespace: "batch", Name: fmt.Sprint("job-", d.serial), UID: fmt.Sprint("job-uid-", d.serial)}
	d.live = append(d.live, p)
	d.poll(node, "NodeGetCapabilities", 1)
	if d.serial%8 == 0 {
		d.publish(p, 900, "INTERNAL")
		d.poll(node, "NodeGetCapabilities", 1)
		d.publish(p, 900, "INTERNAL")
	}
	d.publish(p, 40, "OK")
	d.ofPod(p, cri, "RunPodSandbox", 400, "OK")
	d.poll(cri, "PodSandboxStatus", 1)
	d.poll(image, "ImageStatus", 1)
	d.ofPod(p, image, "PullImage", 2500, "OK")
	d.ofPod(p, cri, "CreateContainer", 90, "OK")
	d.ofPod(p, cri, "StartContainer", 50, "OK")
	d.poll(cri, "PodSandboxStatus", 1)
	d.poll(cri, "ContainerStatus", 1)
}

func (d *day) stop() {
	p := d.live[0]
	d.live = d.live[1:]
	d.ofPod(p, cri, "StopContainer", 700, "OK")
	d.ofPod(p, cri, "StopPodSandbox", 200, "OK")
	d.ends(&call.Record{Service: node, Method: "NodeUnpublishVolume", Code: "OK", Pod: p, Volume: call.Volume{ID: "volume-" + p.UID}}, 20)
	d.poll(cri, "ContainerStatus", 1)
	d.ofPod(p, cri, "RemoveContainer", 30, "OK")
	d.ofPod(p, cri, "RemovePodSandbox", 20, "OK")
}

// ends places a call, asks for it, and holds it against the rules. It takes so
// many milliseconds as a rule, at times a multiple.
func (d *day) ends(r *call.Record, ms float64) {
	r.Start, r.State, r.Socket = d.now, call.Done, "/run/"+r.Service
	r.DurationMS = ms * d.hard * math.Exp(d.rand.NormFloat64()/2)
	if d.rand.IntN(300) == 0 {
		r.DurationMS *= 100
	}
	if r.Code == "" {
		r.State = call.Lost
	}
	d.now = d.now.Add(time.Millisecond)
	r.TraceID, r.SpanID = fmt.Sprintf("%016x%016x", d.rand.Uint64(), d.rand.Uint64()), fmt.Sprintf("%016x", d.rand.Uint64())
	d.pods.Place(r)

	kept := d.sampler.Sample(r)
	d.calls++
	if kept {
		d.kept++
	}
	if r.Failed() {
		d.failed++
		if !kept {
			d.t.Errorf("an error is lost: %+v", r)
		}
	}
	if kept && r.PodParent {
		d.inTrace[r.ParentSpanID]++
	}
}

// tell holds that of each phase as many calls were kept as it had.
func (d *day) tell(ended []*call.Phase, failing []*call.Failing) {
	d.roots += len(ended) + len(failing)
	for _, p := range ended {
		d.phases[p.Kind]++
		if n := d.inTrace[p.SpanID]; n != p.Count || n == 0 {
			d.t.Errorf("%s: %d calls are kept of %d", p.Name(), n, p.Count)
		}
	}
}
