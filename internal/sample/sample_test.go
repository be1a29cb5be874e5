package sample

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

const cri, node = "runtime.v1.RuntimeService", "csi.v1.Node"

// noon is when these tests play.
var noon = time.Date(2026, 10, 5, 12, 0, 0, 0, time.UTC)

// done is a call that took a millisecond and ended well.
func done(service, method string) *call.Record {
	return &call.Record{
		Start: noon, DurationMS: 1, State: call.Done, Service: service, Method: method, Code: "OK",
		Socket: "/run/containerd/containerd.sock", TraceID: strings.Repeat("f", 32),
	}
}

func with(r *call.Record, change func(*call.Record)) *call.Record {
	change(r)
	return r
}

func newSampler(t testing.TB, rate int) *Sampler {
	t.Helper()
	s, err := New(Options{RatePerMillion: rate})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func exec(exit int32) *call.Record {
	return with(done(cri, "ExecSync"), func(r *call.Record) { r.ExitCode, r.Container.ID = &exit, "c1" })
}

// TestRules plays each call to a Sampler that has seen the method before, and
// keeps nothing for its share.
func TestRules(t *testing.T) {
	for name, c := range map[string]struct {
		r   *call.Record
		why string
	}{
		"a poll":                        {done(cri, "Status"), ""},
		"a poll that failed":            {with(done(cri, "Status"), func(r *call.Record) { r.Code = "UNAVAILABLE" }), Failed},
		"a poll that was lost":          {with(done(cri, "Status"), func(r *call.Record) { r.State, r.Code = call.Lost, "" }), Failed},
		"a sampled caller's":            {with(done(cri, "Status"), func(r *call.Record) { r.ParentSampled = true }), Caller},
		"an unsampled caller's":         {with(done(cri, "Status"), func(r *call.Record) { r.NativeParent = true }), ""},
		"a pod's":                       {with(done(cri, "StartContainer"), func(r *call.Record) { r.PodParent = true }), Pod},
		"a pod's volume, again":         {with(done(node, "NodePublishVolume"), func(r *call.Record) { r.PodParent = true }), Pod},
		"a container made anew":         {done(cri, "StartContainer"), Changes},
		"containerd's own":              {done("containerd.services.tasks.v1.Tasks", "Kill"), Changes},
		"a service that nobody knows":   {done("acme.v1.Vault", "Status"), Changes},
		"a method that nobody knows":    {done(cri, "ListMoons"), Changes},
		"a probe":                       {exec(0), ""},
		"a probe that failed":           {exec(1), Exit},
		"a probe whose end was unseen":  {with(done(cri, "ExecSync"), func(*call.Record) {}), Exit},
		"a poll that took long":         {with(done(cri, "Status"), func(r *call.Record) { r.DurationMS = 100 }), Slow},
		"a poll that took hardly":       {with(done(cri, "Status"), func(r *call.Record) { r.DurationMS = 99 }), ""},
		"a volume published":            {with(done(node, "NodePublishVolume"), func(r *call.Record) { r.Volume.Path = "/new" }), Changes},
		"a volume published repeatedly": {done(node, "NodePublishVolume"), ""},
		"what it asks of a driver":      {done(node, "NodeGetVolumeStats"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSampler(t, 0)
			before := []*call.Record{done(cri, "Status"), exec(0), done(node, "NodePublishVolume"), done(node, "NodePublishVolume"), done(node, "NodeGetVolumeStats")}
			for _, r := range before {
				s.Sample(r)
			}
			was := s.Stats()
			if kept := s.Sample(c.r); kept != (c.why != "") {
				t.Errorf("kept is %v", kept)
			}
			now := s.Stats()
			if c.why == "" && now.Dropped != was.Dropped+1 || c.why != "" && now.Kept[c.why] != was.Kept[c.why]+1 {
				t.Errorf("it is not counted as %q: %+v, before it %+v", c.why, now, was)
			}
		})
	}
}

func TestFirstOfEachMethodAndSocket(t *testing.T) {
	s := newSampler(t, 0)
	var got []bool
	for range 2 {
		for _, socket := range []string{"/a", "/b"} {
			for _, m := range []string{"NodeGetVolumeStats", "NodeGetInfo"} {
				got = append(got, s.Sample(with(done(node, m), func(r *call.Record) { r.Socket = socket })))
			}
		}
	}
	if want := []bool{true, true, true, true, false, false, false, false}; !slices.Equal(got, want) {
		t.Errorf("kept are %v", got)
	}
}

// TestProbeThatFailsForHours: the first, then one a minute; after a rest, the
// first again. Another container has its own.
func TestProbeThatFailsForHours(t *testing.T) {
	s := newSampler(t, 0)
	s.Sample(exec(0)) // the method's first
	at := func(second int, container string) bool {
		return s.Sample(with(exec(1), func(r *call.Record) {
			r.Start, r.Container.ID = noon.Add(time.Duration(second)*time.Second), container
		}))
	}
	kept := func(from, to int) (n int) {
		for second := from; second < to; second++ {
			if at(second, "c1") {
				n++
			}
		}
		return n
	}
	if n := kept(0, 10); n != 10 {
		t.Errorf("of the first ten, %d are kept", n)
	}
	if n := kept(10, 2*3600); n != 119 {
		t.Errorf("of two hours, %d are kept", n)
	}
	if !at(2*3600, "c2") {
		t.Error("another container's first is not kept")
	}
	if n := kept(3*3600, 3*3600+10); n != 10 {
		t.Errorf("after an hour of rest, of ten %d are kept", n)
	}
	if at(3*3600-5, "c1") || !at(-24*3600, "c1") {
		t.Error("late records are taken for a rest, or a clock set back for none")
	}
}

// TestShareIsOpenTelemetrys holds that the share is what a TraceIDRatioBased
// sampler of the same rate keeps, so that both keep the same traces.
func TestShareIsOpenTelemetrys(t *testing.T) {
	for _, rate := range []int{0, 1, 10_000, 333_333, 999_999, million} {
		theirs := sdktrace.TraceIDRatioBased(float64(rate) / million)
		s, kept := newSampler(t, rate), 0
		for range 10_000 {
			var id trace.TraceID
			binary.BigEndian.PutUint64(id[:8], rand.Uint64())
			binary.BigEndian.PutUint64(id[8:], rand.Uint64())
			want := theirs.ShouldSample(sdktrace.SamplingParameters{TraceID: id}).Decision == sdktrace.RecordAndSample
			if got := s.inShare(hex.EncodeToString(id[:])); got != want {
				t.Fatalf("%d per million, trace %s: kept is %v, of OpenTelemetry's %v", rate, id, got, want)
			}
			if want {
				kept++
			}
		}
		if want := rate / 100; kept < want-200 || kept > want+200 {
			t.Errorf("%d per million: %d of 10000 are kept", rate, kept)
		}
		if s.inShare("nonsense") != (rate > 0) {
			t.Errorf("%d per million: a trace id that is none", rate)
		}
	}
}

func TestRatesThatAreNone(t *testing.T) {
	for _, rate := range []int{-1, million + 1} {
		if _, err := New(Options{RatePerMillion: rate}); err == nil || !strings.Contains(err.Error(), "give 0") {
			t.Errorf("%d: %v", rate, err)
		}
	}
}

// TestAtOnce holds, under the race detector, that taps may ask at once and no
// call goes uncounted.
func TestAtOnce(t *testing.T) {
	s := newSampler(t, 500_000)
	const each = 2000
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range each {
				s.Sample(with(exec(int32(n%2)), func(r *call.Record) { r.Socket = string(rune('a' + i)) }))
				s.Stats()
			}
		})
	}
	all.Wait()
	if n := sum(s.Stats()); n != 4*each {
		t.Errorf("%d are counted of %d", n, 4*each)
	}
}

func sum(s Stats) uint64 {
	n := s.Dropped
	for _, k := range s.Kept {
		n += k
	}
	return n
}

// steady are calls as they come all day.
func steady() map[string]*call.Record {
	return map[string]*call.Record{
		"poll": done(cri, "ListContainers"), "error": with(done(cri, "Status"), func(r *call.Record) { r.Code = "INTERNAL" }), "failed probe": exec(1),
	}
}

func TestNoAllocations(t *testing.T) {
	for name, r := range steady() {
		s := newSampler(t, 10_000)
		if n := testing.AllocsPerRun(1000, func() { s.Sample(r) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkSample(b *testing.B) {
	for name, r := range steady() {
		b.Run(name, func(b *testing.B) {
			s := newSampler(b, 10_000)
			s.Sample(r)
			b.ReportAllocs()
			for b.Loop() {
				s.Sample(r)
			}
		})
	}
}
