package tier

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTierCost tells what so many nodes cost one collector, and a gateway and three:
// NODES="100 1000 5000" SECONDS=60. What it holds is that no span is lost uncounted.
func TestTierCost(t *testing.T) {
	seconds, nodes := asked(t)
	for _, rate := range []int{10_000, 1_000_000} {
		from, length := 0, 24*3600
		if rate == 1_000_000 {
			from, length = 10*3600, 1800 // without sampling an hour is as the other
		}
		tape := NewTape(t, rate, from, length)
		for _, n := range nodes {
			for _, collectors := range []int{1, 3} {
				t.Run(fmt.Sprintf("%d nodes, %d in a million, %d collectors", n, rate, collectors), func(t *testing.T) {
					tier := NewTier(t, collectors)
					if collectors > 1 {
						tier.Behind()
					}
					cost(t, tier, n, seconds, tape)
				})
			}
		}
	}
}

// TestTierKilledCost tells what a collector that is killed in the middle costs in spans.
func TestTierKilledCost(t *testing.T) {
	seconds, nodes := asked(t)
	tape := NewTape(t, 10_000, 0, 24*3600)
	for name, set := range map[string][]string{"as they are": nil, "acknowledged": acknowledged} {
		for _, n := range nodes {
			t.Run(fmt.Sprintf("%d nodes, %s", n, name), func(t *testing.T) {
				tier := NewTier(t, 3, set...).Behind()
				fleet := NewFleet(t, n, tier.Gateway.Address, tape)
				fleet.Connect()
				fleet.Play(seconds, time.Second)
				tier.Backends[0].Kill()
				played := make(chan struct{})
				go func() { fleet.Play(seconds, time.Second); close(played) }()
				tier.Resolve(0)
				<-played
				if set == nil {
					tier.Arrived(fleet)
				} else {
					tier.Accounted(fleet)
				}
			})
		}
	}
}

// asked is how long and with how many nodes: a few, where nobody has said.
func asked(t *testing.T) (seconds int, nodes []int) {
	t.Helper()
	if os.Getenv("NODES") == "" {
		return 2, []int{50}
	}
	seconds, err := strconv.Atoi(os.Getenv("SECONDS"))
	for _, s := range strings.Fields(os.Getenv("NODES")) {
		n, wrong := strconv.Atoi(s)
		nodes, err = append(nodes, n), errors.Join(err, wrong)
	}
	if err != nil {
		t.Fatalf("NODES=%q SECONDS=%q: %v", os.Getenv("NODES"), os.Getenv("SECONDS"), err)
	}
	return seconds, nodes
}

// cost plays so many seconds and tells what that took of each collector, the gateway first.
func cost(t *testing.T, tier *Tier, nodes, seconds int, tape Tape) {
	t.Helper()
	all := tier.Backends
	if tier.Gateway != nil {
		all = slices.Concat([]*Collector{tier.Gateway}, all)
	}
	fleet := NewFleet(t, nodes, tier.Endpoint(), tape)
	empty := all[0].KiB() >> 10
	fleet.Connect()
	before := fleet.Settle(t)
	connected := all[0].KiB() >> 10
	heap := all[0].Value(t, "otelcol_process_runtime_heap_alloc_bytes") >> 20
	var begin, used []time.Duration
	for _, c := range all {
		begin = append(begin, c.CPU(t))
	}
	fleet.Play(seconds, time.Second)
	counts := fleet.Settle(t)
	var sum time.Duration
	for i, c := range all {
		used = append(used, c.CPU(t)-begin[i])
		sum += used[i]
	}
	full := all[0].KiB() >> 10
	until(t, "what collectors have taken arrives", func() bool { return tier.Sink.Distinct() >= int(counts.Exported) })
	spans := counts.Given - before.Given
	t.Logf("%d spans, %.0f a second; processor time %v, of all %.0f µs a span: %.0f nodes a core", spans, float64(spans)/float64(seconds),
		used, float64(sum.Microseconds())/float64(spans), float64(nodes*seconds)/sum.Seconds())
	t.Logf("MiB resident, of the first: %d, with all connected %d (%d MiB allocated), in the end %d", empty, connected, heap, full)
	tier.Accounted(fleet)
}
