package sample

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// FuzzLaws makes calls of bytes. Whatever they are: what failed, what its caller
// sampled, what is a pod's and what nobody knows is kept; every call is counted
// once; slow calls, failed probes and repeated mounts have their bounds; and what
// is remembered has one.
func FuzzLaws(f *testing.F) {
	f.Add([]byte("polls, polls, polls"), 0)
	f.Add([]byte{0, 0, 0, 0, 7, 7, 7, 7, 0xff, 0xff, 0xff, 0xff, 3, 200, 9, 1}, 10_000)
	f.Add([]byte{255, 254, 253, 252, 251, 250, 249, 248, 247, 246, 245, 244, 243, 242, 241, 240}, million)
	f.Fuzz(func(t *testing.T, b []byte, rate int) {
		s, err := New(Options{RatePerMillion: rate})
		if err != nil {
			return
		}
		calls := uint64(0)
		for ; len(b) >= 4; b = b[4:] {
			r := ofBytes(b[:4])
			calls++
			kept := s.Sample(r)
			if must := r.Failed() || r.ParentSampled || r.PodParent || r.Service == "acme.v1.Vault" || rate == million; must && !kept {
				t.Fatalf("dropped: %+v", r)
			}
		}
		st := s.Stats()
		if n := sum(st); n != calls {
			t.Errorf("%d calls are counted of %d", n, calls)
		}
		if most := uint64(mostSlow(0)*len(s.usuals)) + calls/50; st.Kept[Slow] > most {
			t.Errorf("%d of %d calls are kept as slow", st.Kept[Slow], calls)
		}
		if st.Kept[First] > uint64(len(s.usuals)) {
			t.Errorf("%d first calls of %d methods", st.Kept[First], len(s.usuals))
		}
	})
}

// ofBytes is a call of four bytes.
func ofBytes(b []byte) *call.Record {
	methods := []name{{cri, "Status"}, {cri, "ExecSync"}, {node, "NodePublishVolume"}, {node, "NodeGetInfo"}, {cri, "StartContainer"}, {"acme.v1.Vault", "Open"}, {cri, ""}, {"", ""}}
	m := methods[b[0]&7]
	exit := int32(b[1] & 1)
	r := &call.Record{
		Start: noon.Add(time.Duration(int8(b[2])) * time.Second), DurationMS: float64(uint32(1) << (b[3] & 31)), State: call.Done,
		Service: m.service, Method: m.method, Code: "OK", Socket: string('a' + rune(b[0]>>6)), TraceID: fmt.Sprintf("%016x%02x%014x", 1, b[2], b[3]),
		ParentSampled: b[1]&14 == 14, PodParent: b[1]&112 == 112, Container: call.Container{ID: fmt.Sprint(b[3] >> 6)}, Volume: call.Volume{Path: fmt.Sprint(b[3] >> 6)},
	}
	switch {
	case b[0]&56 == 56:
		r.Code = call.CodeName(uint32(b[3]))
	case b[0]&56 == 48:
		r.State, r.Code = call.Lost, ""
	case b[1]&2 == 0:
		r.ExitCode = &exit
	}
	return r
}

// TestMemoryIsBounded plays more sockets, containers and paths than there is room for.
func TestMemoryIsBounded(t *testing.T) {
	s := newSampler(t, 0)
	for i := range 3 * maxPaced {
		id := fmt.Sprint(i)
		s.Sample(with(done(cri, "Status"), func(r *call.Record) { r.Socket = id }))
		s.Sample(with(exec(1), func(r *call.Record) { r.Container.ID = id }))
		s.Sample(with(done(node, "NodePublishVolume"), func(r *call.Record) { r.Volume.Path = id }))
	}
	for what, n := range map[string]int{"methods": len(s.usuals), "containers": len(s.exits.due), "paths": len(s.mounts.due)} {
		if n < maxPaced || n > maxPaced+1 {
			t.Errorf("%d %s are remembered", n, what)
		}
	}
	if n := s.Stats().Kept[Exit]; n != maxPaced+exitsAtOnce {
		t.Errorf("%d failed probes are kept", n)
	}
	later := with(exec(1), func(r *call.Record) { r.Start, r.Container.ID = noon.Add(time.Hour), "new" })
	if !s.Sample(later) || len(s.exits.due) != 1 {
		t.Errorf("there is no room when the others have had their rest: %d", len(s.exits.due))
	}
}

// TestUsualShifts: where all calls of a method come to take ten times as long, some
// are kept, then it is what is usual; and so on the way back. One that takes long
// then is kept again.
func TestUsualShifts(t *testing.T) {
	u := usuals{}.of(method{})
	slow := func(n int, took time.Duration) (kept int) {
		for range n {
			if u.slow(took) {
				kept++
			}
		}
		return kept
	}
	for _, c := range []struct {
		calls       int
		took        time.Duration
		least, most int
	}{
		{5000, 40 * time.Millisecond, 0, 0},
		{5000, 400 * time.Millisecond, 10, 25}, // one in 100 of the latest, and then it is usual
		{1, 1600 * time.Millisecond, 1, 1},
		{100, 400 * time.Millisecond, 0, 0},
		{20_000, 40 * time.Millisecond, 0, 0},
		{1, 400 * time.Millisecond, 1, 1},
		{1, -time.Second, 0, 0},
		{1, 1 << 62, 1, 1},
	} {
		if n := slow(c.calls, c.took); n < c.least || n > c.most {
			t.Errorf("%d calls of %v: %d are kept as slow, not %d to %d", c.calls, c.took, n, c.least, c.most)
		}
	}
}

// TestFourTimes: what takes four times as long as is usual is slow, and what takes not
// twice as long is not.
func TestFourTimes(t *testing.T) {
	for usually := time.Millisecond; usually < time.Minute; usually += usually/7 + 1 {
		u := &usual{}
		for range 1000 {
			u.slow(usually)
		}
		if long := max(4*usually, notSlow); !u.slow(long) {
			t.Errorf("%v is not slow where %v is usual", long, usually)
		}
		if short := 2*usually - 1; u.slow(short) {
			t.Errorf("%v is slow where %v is usual", short, usually)
		}
	}
}

// mostSlow bounds what is kept as slow of so many calls of a method: one in 50, and
// 32 that were too many for what was known.
func mostSlow(calls int) int { return 32 + calls/50 }

// TestSlowestOfAll plays against the estimate: a part of the calls take each time just
// so long that they are slow.
func TestSlowestOfAll(t *testing.T) {
	for _, part := range []float64{1, 0.5, 0.1, 0.05, 0.03, 0.01} {
		random := rand.New(rand.NewPCG(1, 2))
		u, kept := &usual{}, 0
		for n := range 100_000 {
			took := time.Millisecond
			if random.Float64() < part {
				took = min(notSlow<<u.most(), 20*time.Minute)
			}
			if u.slow(took) {
				kept++
			}
			if most := mostSlow(n); kept > most {
				t.Fatalf("part %v: of %d calls %d are kept as slow, more than %d", part, n, kept, most)
			}
		}
	}
}
