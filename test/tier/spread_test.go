package tier

import (
	"slices"
	"testing"
	"time"
)

// Without a gateway each agent's connection ends at one of the collectors, and so do its
// traces, whole. But agents dial once and stay: of a roll-out's last collector nobody knows.
// With max_connection_age they come to it, and no span is lost by that.
func TestReplicasSpread(t *testing.T) {
	for _, age := range []string{"0s", "2s"} {
		t.Run("max_connection_age "+age, func(t *testing.T) {
			tier := NewTier(t, 3, "yaml:receivers::otlp::protocols::grpc::keepalive::server_parameters::max_connection_age: "+age)
			service := NewService(t)
			service.Leads(tier.Backends...)
			fleet := NewFleet(t, 200, service.Address, NewTape(t, 10_000, 0, 3600))
			fleet.Play(200, 20*time.Millisecond)
			fleet.Settle(t)
			first := service.Open(tier.Backends...)
			for i, c := range tier.Backends {
				service.Leads(slices.Delete(slices.Clone(tier.Backends), i, i+1)...)
				c.End(t)
				fleet.Connect() // who was connected there is so elsewhere
				fleet.Settle(t)
				tier.Again(i)
				service.Leads(tier.Backends...)
			}
			fleet.Connect()
			fleet.Settle(t)
			after := service.Open(tier.Backends...)
			fleet.Play(200, 20*time.Millisecond)
			if age != "0s" {
				until(t, "each collector has agents", func() bool {
					fleet.Play(1, 20*time.Millisecond)
					return slices.Min(service.Open(tier.Backends...)) > 0
				})
			}
			last := service.Open(tier.Backends...)
			tier.Accounted(fleet)
			t.Logf("connections at first %v, after the roll-out %v, in the end %v", first, after, last)
			if age == "0s" && last[2] != 0 {
				t.Errorf("%d agents are at the last collector: it needs no max_connection_age", last[2])
			}
		})
	}
}
