package tier

import (
	"testing"
	"time"
)

// Behind the gateway all spans of a trace come to the same collector, from whichever
// node they are, and each span once.
func TestTierWhole(t *testing.T) {
	tier := NewTier(t, 3).Behind()
	fleet := NewFleet(t, 100, tier.Gateway.Address, NewTape(t, 10_000, 0, 3600))
	fleet.Play(400, 20*time.Millisecond)
	counts, a := tier.Arrived(fleet)
	if counts.Dropped != 0 || a.Missing != 0 || a.Twice != 0 {
		t.Error("not each span came, and once")
	}
	if a.Divided != 0 || a.Traces < 100 {
		t.Errorf("%d traces of %d are divided", a.Divided, a.Traces)
	}
	for i, n := range a.By {
		if n == 0 {
			t.Errorf("collector %d of 3 has no span", i)
		}
	}
}
