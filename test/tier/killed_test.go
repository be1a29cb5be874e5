package tier

import (
	"testing"
	"time"
)

// A collector that is killed takes with it what it has taken and not sent, by its own
// counters, and nothing else is lost. Here it has sent nothing yet.
func TestTierKilled(t *testing.T) {
	tier := NewTier(t, 3, "yaml:exporters::otlp_grpc/traces::sending_queue::batch: {flush_timeout: 1h, min_size: 50_000_000, max_size: 50_000_000}").Behind()
	fleet := NewFleet(t, 100, tier.Gateway.Address, NewTape(t, 10_000, 0, 3600))
	fleet.Play(200, 20*time.Millisecond)
	fleet.Settle(t)
	held := tier.Backends[0].Value(t, "otelcol_receiver_accepted_spans")
	tier.Backends[0].Kill()

	// The gateway tries again until its name leads to the other two.
	resume := playing(fleet)
	tier.Resolve(0)
	resume(t)
	counts, a := tier.Arrived(fleet)
	if held == 0 || a.Missing < held || a.Missing > held+int(counts.Dropped) {
		t.Errorf("%d spans are missing; the killed collector held %d, and the agents dropped %d", a.Missing, held, counts.Dropped)
	}
}

// acknowledged is a collector that says it has spans when they are where they go to.
var acknowledged = []string{
	"yaml:exporters::otlp_grpc/traces::sending_queue: {wait_for_result: true, batch: {flush_timeout: 200ms}}",
}

// Where collectors do, one that is killed at work loses nothing that the agents don't count.
func TestTierKilledAcknowledged(t *testing.T) {
	tier := NewTier(t, 3, acknowledged...).Behind()
	fleet := NewFleet(t, 100, tier.Gateway.Address, NewTape(t, 10_000, 0, 3600))
	resume := playing(fleet)
	until(t, "it is at work", func() bool { return tier.Sink.Of(0) > 100 })
	// A collector that only says it has them would have some that it has not sent.
	since := fleet.Exported()
	until(t, "more spans are taken", func() bool { return fleet.Exported() > since+100 })
	tier.Backends[0].Kill()
	tier.Resolve(0)
	resume(t)
	tier.Accounted(fleet)
}

// A roll-out of the collectors loses nothing that the agents do not count, and sends
// nothing twice: each goes on until the gateway does not know it any more.
func TestTierRolledOut(t *testing.T) {
	tier := NewTier(t, 3).Behind()
	fleet := NewFleet(t, 100, tier.Gateway.Address, NewTape(t, 10_000, 0, 3600))
	for i := range tier.Backends {
		resume := playing(fleet)
		tier.Resolve(i)
		tier.Backends[i].End(t)
		resume(t)
		tier.Again(i)
		tier.Resolve()
	}
	if _, a := tier.Accounted(fleet); a.Twice > 0 {
		t.Errorf("%d spans came twice", a.Twice)
	}
}

// playing plays on in the background; what it returns waits until all of that is settled.
func playing(fleet *Fleet) func(testing.TB) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fleet.Play(400, 20*time.Millisecond)
	}()
	return func(t testing.TB) {
		t.Helper()
		<-done
		fleet.Settle(t)
	}
}

// The gateway holds nothing: while no collector is there the agents are told so, and count
// each span; when one comes back, the next ones arrive.
func TestTierGone(t *testing.T) {
	tier := NewTier(t, 2).Behind()
	fleet := NewFleet(t, 50, tier.Gateway.Address, NewTape(t, 10_000, 0, 3600))
	for _, c := range tier.Backends {
		c.End(t)
	}
	fleet.Connect()
	away := fleet.Settle(t)
	for i := range tier.Backends {
		tier.Again(i)
	}
	until(t, "spans arrive", func() bool {
		fleet.Connect()
		return fleet.Settle(t).Exported > 0
	})
	if _, a := tier.Accounted(fleet); away.Dropped != away.Given || a.Missing < int(away.Given) {
		t.Errorf("while they were gone the agents have counted %+v, and %d are missing", away, a.Missing)
	}
}
