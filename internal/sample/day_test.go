package sample_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/phase"
	"github.com/grpc-tap/grpc-tap/internal/sample"
	"github.com/grpc-tap/grpc-tap/test/day"
)

// TestDay is a day of a node of 110 pods, by what the kubelet does: at least 95 %
// fewer spans than calls, no error lost, each pod's start and stop whole, and
// nothing uncounted. go test -v -run TestDay ./internal/sample prints the figures.
func TestDay(t *testing.T) {
	d := newSampledDay(t, 10_000)
	for second := range 24 * 60 * 60 {
		d.Second(second)
		d.tell(d.pods.Tick(d.Now))
	}
	d.tell(d.pods.Close(d.Now))

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

// sampledDay is a day of which each call is asked for.
type sampledDay struct {
	*day.Day
	t       *testing.T
	sampler *sample.Sampler
	pods    *phase.Tracker

	calls, kept, failed uint64
	inTrace             map[string]int // calls of a pod's trace that were kept, by root
	phases              map[call.PhaseKind]int
	roots               int // and notices
}

func newSampledDay(t *testing.T, rate int) *sampledDay {
	t.Helper()
	s, err := sample.New(sample.Options{RatePerMillion: rate})
	if err != nil {
		t.Fatal(err)
	}
	pods, err := phase.New("boot", nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &sampledDay{t: t, sampler: s, pods: pods, inTrace: map[string]int{}, phases: map[call.PhaseKind]int{}}
	d.Day = day.New(1, d.ends)
	for i := range 110 {
		pods.Ran(day.Old(i), day.ID("sandbox", i), "main", true)
	}
	return d
}

// ends places a call, asks for it, and holds it against the rules.
func (d *sampledDay) ends(r *call.Record) {
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
func (d *sampledDay) tell(ended []*call.Phase, failing []*call.Failing) {
	d.roots += len(ended) + len(failing)
	for _, p := range ended {
		d.phases[p.Kind]++
		if n := d.inTrace[p.SpanID]; n != p.Count || n == 0 {
			d.t.Errorf("%s: %d calls are kept of %d", p.Name(), n, p.Count)
		}
	}
}
