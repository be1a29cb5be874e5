package phase

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

var methods = []string{
	"NodeStageVolume", "NodePublishVolume", "RunPodSandbox", "PullImage", "CreateContainer", "StartContainer",
	"StopContainer", "StopPodSandbox", "NodeUnpublishVolume", "NodeUnstageVolume", "RemoveContainer", "RemovePodSandbox",
	"ExecSync", "PodSandboxStatus", "NodeGetVolumeStats",
}

// anything is a call that a node may have seen, or not.
func anything(rnd *rand.Rand, n int, now time.Time) *call.Record {
	one := func(of ...string) string { return of[rnd.IntN(len(of))] }
	id := func(what string, n int) string { return fmt.Sprint(what, rnd.IntN(n)) }
	took := rnd.IntN(40_000)
	method := one(methods...)
	object := map[bool]string{true: one("app@", "log@") + id("c", 9), false: id("s", 5)}[strings.HasSuffix(method, "Container") || method == "ExecSync"]
	if strings.HasPrefix(method, "Node") {
		object = id("v", 3)
	}
	r := record("0", "+0", method, one("web", "db", "etcd", "web", "-"), object)
	r.Start, r.DurationMS = now.Add(-time.Duration(took)*time.Millisecond), float64(took)
	r.TraceID, r.SpanID = fmt.Sprintf("%032x", n), fmt.Sprintf("%016x", n)
	if rnd.IntN(4) == 0 {
		r.Code, r.Message = "UNKNOWN", "no"
	}
	if rnd.IntN(20) == 0 {
		r.State, r.Code = call.Lost, ""
	}
	if rnd.IntN(5) == 0 {
		r.NativeParent, r.ParentSampled, r.ParentSpanID = true, rnd.IntN(2) == 0, "00000000000000ff"
	}
	return r
}

// FuzzLaw: in whatever order calls come, and however often the tap is restarted,
// every parent that was given out is a root that is told, once, before its call
// or after; ids are valid; and what a caller has sampled stays where it is.
func FuzzLaw(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, pace uint8) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		l := &law{t: t, told: map[string]int{}, parents: map[string]bool{}}
		store := &kept{}
		now := midnight
		tracker, _ := New(boot, store)
		for n := range 400 {
			now = now.Add(time.Duration(rnd.IntN(1+int(pace)*200)) * time.Millisecond)
			r := anything(rnd, n+1, now)
			before := *r
			tracker.Place(r)
			l.placed(&before, r)
			if rnd.IntN(3) == 0 {
				l.tick(tracker, now)
			}
			l.counted(tracker)
			if rnd.IntN(50) == 0 {
				l.tick(tracker, now) // what was told and not fetched goes with its tap
				_ = tracker.Save()
				tracker, _ = New(boot, store)
			}
		}
		for range 3 {
			now = now.Add(maxAge + quiet)
			l.tick(tracker, now)
		}
		for parent := range l.parents {
			if l.told[parent] != 1 {
				t.Errorf("root %s was told %d times", parent, l.told[parent])
			}
		}
		if len(tracker.open) != 0 {
			t.Errorf("%d phases are open for ever", len(tracker.open))
		}
	})
}

// counted: what is held is what is counted.
func (l *law) counted(t *Tracker) {
	n := 0
	for _, p := range t.pods {
		n += len(p.sandboxes) + len(p.containers) + len(p.images) + len(p.volumes) + len(p.owned)
		for _, ph := range []*phase{p.start, p.turn} {
			if ph != nil {
				n += len(ph.Calls) + len(ph.failing) + len(ph.Links)
			}
		}
	}
	if n != t.held {
		l.t.Fatalf("%d names and calls are held, %d are counted", n, t.held)
	}
}

type law struct {
	t       *testing.T
	told    map[string]int
	parents map[string]bool
}

func (l *law) placed(before, r *call.Record) {
	native := before.NativeParent && before.ParentSampled
	if native && (r.TraceID != before.TraceID || r.ParentSpanID != before.ParentSpanID || r.PodParent) {
		l.t.Errorf("%s of a sampled caller is moved", r.Method)
	}
	if r.PodParent {
		l.parents[r.TraceID+r.ParentSpanID] = true
	}
	if !isID(r.TraceID, 32) || r.PodParent && !isID(r.ParentSpanID, 16) || r.PodTraceID != "" && (!isID(r.PodTraceID, 32) || !isID(r.PodSpanID, 16)) {
		l.t.Errorf("no ids: %+v", r)
	}
	if r.SpanID != before.SpanID || r.NativeParent != before.NativeParent {
		l.t.Errorf("%s is another call now", r.Method)
	}
}

func (l *law) tick(tracker *Tracker, now time.Time) {
	ended, failing := tracker.Tick(now)
	for _, p := range ended {
		l.told[p.TraceID+p.SpanID]++
		if n := l.told[p.TraceID+p.SpanID]; n > 1 || p.Outcome == "" || p.End.Before(p.Begin) || p.Count < len(p.Calls) || p.Count > maxCalls {
			l.t.Errorf("told %d times: %+v", n, p)
		}
	}
	for _, f := range failing {
		l.parents[f.TraceID+f.ParentSpanID] = true
		if !isID(f.SpanID, 16) || f.Method == "" {
			l.t.Errorf("%+v", f)
		}
	}
}

func isID(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0") != "" && strings.Trim(s, "0123456789abcdef") == ""
}

// Ids set apart boots, pods, epochs, kinds and turns, and are the same always.
func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for _, boot := range []string{"a", "b", ""} {
		for _, uid := range []string{"u", "v"} {
			for n := range uint32(2) {
				for turn := range uint32(2) {
					e := &epoch{Epoch: Epoch{Pod: call.Pod{UID: uid}, N: n, Turn: turn}}
					trace, span := ids(boot, e, call.PodStop)
					again, _ := ids(boot, e, call.PodStop)
					if seen[trace] || seen[span] || again != trace || !isID(trace, 32) || !isID(span, 16) {
						t.Errorf("%s %s, again %s", trace, span, again)
					}
					seen[trace], seen[span] = true, true
				}
			}
		}
	}
}

// A phase of a thousand calls is told as it is, in short.
func TestCappedByCalls(t *testing.T) {
	tracker, _ := New(boot, nil)
	in := 0
	for i := range maxCalls + 50 {
		r := record(fmt.Sprintf("%g", float64(i)/2), "+0.1", "RunPodSandbox", "web", "-")
		r.Code, r.Message = "UNKNOWN", strings.Repeat("long\n", 5000)+"the cause"
		tracker.Place(r)
		if r.PodParent {
			in++
		}
	}
	ended, failing := tracker.Tick(at("530"))
	if in != maxCalls || len(ended) != 1 || len(failing) != 9 {
		t.Fatalf("%d calls in the trace, %d roots, %d notices", in, len(ended), len(failing))
	}
	p := ended[0]
	if p.Outcome != call.Capped || p.Count != maxCalls || p.Failures != maxCalls || len(p.Calls) != maxShort || !p.End.Equal(at("499.6")) {
		t.Errorf("%s, %d calls, %d failed, %d kept, end %v", p.Outcome, p.Count, p.Failures, len(p.Calls), p.End)
	}
	if first, last := p.Calls[0], p.Calls[maxShort-1]; !first.Start.Equal(at("0")) || !last.Start.Equal(at("499.5")) || last.Note != "the cause" {
		t.Errorf("%+v … %+v", first, last)
	}
	if n := len(p.LastFailure.Message); n > maxFirst+3 {
		t.Errorf("a message of %d bytes is kept", n)
	}
}

// What a start and a stop say of themselves.
func TestWhatIsTold(t *testing.T) {
	tracker, _ := New(boot, nil)
	var records []*call.Record
	for _, line := range []string{
		"0 +30 NodeStageVolume v1 UNKNOWN", "30 +1 NodeStageVolume v1", "31 +1 NodePublishVolume v1", "32 +1 RunPodSandbox s1",
		"33 +10 PullImage nginx", "43 +1 CreateContainer app@c1", "44 +1 StartContainer app@c1", "50 +1 StopContainer app@c1", "51 +1 StopPodSandbox s1", "52 +1 NodeUnpublishVolume v1",
	} {
		f := strings.Fields(line)
		r := record(f[0], f[1], f[2], "web", f[3])
		r.TraceID, r.SpanID = fmt.Sprintf("%032x", 1+len(records)), "00000000000000aa"
		r.NativeParent, r.ParentSampled = f[2] == "PullImage", f[2] == "PullImage"
		if len(f) > 4 {
			r.Code, r.Message = f[4], "mount failed\nOutput: no route to host\n"
		}
		tracker.Place(r)
		records = append(records, r)
	}
	ended, _ := tracker.Tick(at("100"))
	if len(ended) != 2 {
		t.Fatalf("%d phases, want a start and a stop", len(ended))
	}
	start, stop := ended[0], ended[1]
	var steps []string
	for _, s := range start.Steps {
		steps = append(steps, fmt.Sprint(s.Name, " ", s.Took))
	}
	if got := strings.Join(steps, ", "); got != "volumes_staged 31s, volumes_published 32s, sandbox_ready 33s, images_pulled 43s, containers_created 44s, containers_started 45s" {
		t.Error(got)
	}
	if c := start.Calls[0]; c.Subject != "v1" || c.Note != "Output: no route to host" || !c.Failed || c.Duration != 30*time.Second {
		t.Errorf("%+v", c)
	}
	if f := start.LastFailure; f.Method != "NodeStageVolume" || f.Code != "UNKNOWN" || !strings.HasPrefix(f.Message, "mount failed\n") {
		t.Errorf("%+v", f)
	}
	if want := []call.Link{{TraceID: records[4].TraceID, SpanID: records[4].SpanID}}; !slices.Equal(start.Links, want) {
		t.Errorf("links %v, want the caller's trace", start.Links)
	}
	if want := []call.Link{{TraceID: start.TraceID, SpanID: start.SpanID}}; !slices.Equal(stop.Links, want) {
		t.Errorf("links %v, want the start", stop.Links)
	}
	if records[0].TraceID != start.TraceID || records[0].ParentSpanID != start.SpanID || start.Took() != 45*time.Second {
		t.Errorf("%+v", start)
	}
}

// startPod places all that a pod's start consists of.
func startPod(t *Tracker, i, containers int, now time.Time) {
	pod := call.Pod{Namespace: "shop", Name: fmt.Sprintf("web-%d", i), UID: fmt.Sprintf("9f3c1c8e-0c55-4d0b-9b0e-%012d", i)}
	place := func(method, object string) {
		r := record("0", "+1", method, "-", object)
		r.Start, r.Pod = now, pod
		t.Place(r)
	}
	place("NodePublishVolume", fmt.Sprintf("volume-%064d", i))
	place("RunPodSandbox", fmt.Sprintf("s%063d", i))
	for c := range containers {
		id := fmt.Sprintf("container-%d@%064d", c, i*1000+c)
		place("PullImage", fmt.Sprintf("registry.example.com/team/app-%d:%d", c, i))
		place("CreateContainer", id)
		place("StartContainer", id)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// 500 pods with 10 containers each, while all start and when all run.
func TestMemory(t *testing.T) {
	before := heap()
	tracker, _ := New(boot, nil)
	for i := range 500 {
		startPod(tracker, i, 10, midnight)
	}
	starting := heap() - before
	tracker.Tick(midnight.Add(time.Minute))
	running := heap() - before
	t.Logf("500 pods, 5,000 containers: %d KiB while they start, %d KiB when they run", starting>>10, running>>10)
	if starting > 8<<20 || running > 4<<20 {
		t.Errorf("%d KiB while they start, %d KiB when they run", starting>>10, running>>10)
	}
	runtime.KeepAlive(tracker)
}

// Any number of pods stays within what is documented; who has to go is told
// before.
func TestBounded(t *testing.T) {
	tracker, _ := New(boot, &kept{})
	const extra = 300
	told := 0
	for i := range maxPods + extra {
		startPod(tracker, i, 1, midnight.Add(time.Duration(i)*time.Millisecond))
		if i%100 == 0 {
			ended, _ := tracker.Tick(midnight.Add(time.Duration(i) * time.Millisecond))
			told += len(ended)
		}
		if i%8 == 0 {
			tracker.Place(record("0", "+1", "NodeStageVolume", "-", fmt.Sprint("v", i)))
		}
	}
	ended, _ := tracker.Tick(midnight.Add(time.Second))
	told += len(ended)
	if st := tracker.Stats(); st.Evicted != extra || told != extra || st.Dropped != 0 {
		t.Errorf("%+v, %d told, want %d", st, told, extra)
	}
	if len(tracker.pods) != maxPods || tracker.order.Len() != maxPods || len(tracker.owners) != 2*maxPods ||
		len(tracker.volumes) != maxPods || len(tracker.waiting) != maxWaiting || len(tracker.epochs.byUID) > maxPods {
		t.Errorf("%d pods, %d ids, %d volumes, %d waiting, %d epochs", len(tracker.pods), len(tracker.owners),
			len(tracker.volumes), len(tracker.waiting), len(tracker.epochs.byUID))
	}
	ended, _ = tracker.Tick(midnight.Add(time.Hour))
	if len(ended) != maxPods || len(tracker.open) != 0 {
		t.Errorf("%d told, %d open", len(ended), len(tracker.open))
	}
	for i := range maxPods {
		r := record("4000", "+1", "StopPodSandbox", "-", fmt.Sprintf("s%063d", i+extra))
		tracker.Place(r)
		r = record("4000", "+1", "NodeUnpublishVolume", "-", fmt.Sprintf("volume-%064d", i+extra))
		r.Pod.UID = fmt.Sprintf("9f3c1c8e-0c55-4d0b-9b0e-%012d", i+extra)
		tracker.Place(r)
	}
	tracker.Tick(midnight.Add(2 * time.Hour))
	tracker.Tick(midnight.Add(3 * time.Hour))
	if len(tracker.pods)+tracker.order.Len()+len(tracker.owners)+len(tracker.volumes)+tracker.held != 0 {
		t.Errorf("%d pods, %d ids, %d volumes are left of pods that are gone", len(tracker.pods), len(tracker.owners), len(tracker.volumes))
	}
}

func BenchmarkPlace(b *testing.B) {
	tracker, _ := New(boot, nil)
	for i := range 500 {
		startPod(tracker, i, 10, midnight)
	}
	tracker.Tick(midnight.Add(time.Hour))
	uid := fmt.Sprintf("9f3c1c8e-0c55-4d0b-9b0e-%012d", 250)
	for name, r := range map[string]*call.Record{
		"list":  record("0", "+1", "ListContainers", "-", "-"),
		"probe": record("0", "+1", "ExecSync", "-", "container-3@x"),
		"start": record("0", "+1", "StartContainer", "-", "container-new@x"),
	} {
		if name != "list" {
			r.Pod.UID = uid
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				again := *r
				tracker.Place(&again)
			}
		})
	}
	// Every call of pods that start and stop, a pod at a time.
	b.Run("pod", func(b *testing.B) {
		b.ReportAllocs()
		tracker, _ := New(boot, nil)
		for i := 0; b.Loop(); i++ {
			startPod(tracker, i, 1, midnight)
		}
	})
}
