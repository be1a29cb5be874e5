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
	calls.Go(func() {
		if _, err := s.kubelet.Runtime.Status(ctx, &runtime.StatusRequest{}); err == nil {
			t.Error("a call that hangs was answered")
		}
	})
	if _, err := fakecri.Say(t.Context(), s.kubelet.Conn(), []byte("of a method that nobody knows")); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(10 * time.Second); s.tap.Now().Running["runtime.v1.RuntimeService/Status"] != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in hand: %+v", s.tap.Now())
		}
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
	s.end()
	if n := s.tap.Now(); n.Decoded != 0 || len(n.Running) != 0 {
		t.Errorf("in hand at the end: %+v", n)
	}
	if st := s.tap.Stats(); st.Calls != 102 || st.Running != 0 {
		t.Errorf("stats %+v", st)
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
