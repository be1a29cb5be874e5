package tap

import (
	"context"
	"sync"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// What a tap has in hand may be asked while it works.
func TestNowWhileItRuns(t *testing.T) {
	s := newSpine(t, nil)
	s.runtime.On("/runtime.v1.RuntimeService/Status", fakecri.Hang())
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	var calls sync.WaitGroup
	began := time.Now()
	calls.Go(func() {
		if _, err := s.kubelet.Runtime.Status(ctx, &runtime.StatusRequest{}); err == nil {
			t.Error("a call that hangs was answered")
		}
	})
	if _, err := fakecri.Say(t.Context(), s.kubelet.Conn(), []byte("of a method that nobody knows")); err != nil {
		t.Error(err)
	}
	until := func(ok func(Now) bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !ok(s.tap.Now()); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("in hand: %+v", s.tap.Now())
			}
		}
	}
	until(func(n Now) bool { return n.Running["runtime.v1.RuntimeService/Status"] == 1 })
	s.runtime.On("/runtime.v1.RuntimeService/GetContainerEvents", fakecri.Hang())
	if _, err := s.kubelet.Runtime.GetContainerEvents(ctx, &runtime.GetEventsRequest{}); err != nil {
		t.Error(err)
	}
	until(func(n Now) bool { return n.Running["runtime.v1.RuntimeService/GetContainerEvents"] == 1 })
	if oldest := s.tap.Now().Oldest; len(oldest) != 1 {
		t.Errorf("old calls, without streams: %v", oldest)
	}
	status := s.tap.Now().Oldest["runtime.v1.RuntimeService/Status"]
	if status.Before(began) || status.After(time.Now()) {
		t.Errorf("a call that began after %v, before %v: %v", began, time.Now(), status)
	}
	for range 100 {
		s.version()
		if n := s.tap.Now(); n.Decoded != 1 || n.Blind != 0 || n.Opaque != 0 {
			t.Errorf("in hand: %+v", n)
		}
	}
	if st := s.tap.Stats(); st.Connections != 1 || st.Running == 0 {
		t.Errorf("stats %+v", st)
	}
	hangUp()
	calls.Wait()
	until(func(n Now) bool { return len(n.Running) == 0 && len(n.Oldest) == 0 })
	_ = s.kubelet.Close() // a relay that detaches before it has seen that would go on with it
	until(func(n Now) bool { return n.Decoded == 0 })
	s.end()
	if st := s.tap.Stats(); st.Calls != 103 || st.Running != 0 {
		t.Errorf("stats %+v", st)
	}
}

// Of several taps, the oldest call is the oldest.
func TestAddOfNow(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	var sum Now
	for _, began := range []int64{20, 10, 30} {
		sum.Add(Now{Running: map[string]int{"m": 1}, Oldest: map[string]time.Time{"m": at(began)}})
	}
	if sum.Running["m"] != 3 || !sum.Oldest["m"].Equal(at(10)) {
		t.Errorf("%+v", sum)
	}
}

// A sum of taps shares no map with another.
func TestAddOfStats(t *testing.T) {
	past := Stats{GaveUp: map[string]uint64{"panic": 1}}
	sum := past
	sum.Add(Stats{Blind: 2, GaveUp: map[string]uint64{"panic": 1, "mirror_overflow": 1}})
	if past.GaveUp["panic"] != 1 || sum.GaveUp["panic"] != 2 || sum.GaveUp["mirror_overflow"] != 1 || sum.Blind != 2 {
		t.Errorf("%+v and %+v", past, sum)
	}
}
