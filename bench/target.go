package main

import "fmt"

// target is what we want to reach, and what was measured of it.
type target struct {
	What, Want, Measured string
	Met                  bool
}

const mebi = 1 << 20

// targets are those of the plan; the shares are medians of what each round gave.
func (r *results) targets() []target {
	one, many, bigOne := loads[0], loads[1], loads[len(loads)-1]
	// What a way adds is a small difference of two times, and may be nothing in a round: told is the ratio of the medians, not
	// the median of the ratios.
	added := func(way string) float64 {
		return r.across(one, func(by map[string]*turn) float64 { return p50(by[way]) - p50(by[viaDirect]) }).Median
	}
	least, grpc := added(viaTap)/added(viaRelay), added(viaTap)/added(viaGRPC)
	rate := r.across(many, func(by map[string]*turn) float64 { return perSecond(by[viaTap]) / perSecond(by[viaRelay]) })
	long := r.across(bigOne, func(by map[string]*turn) float64 { return p50(by[viaTap]) / p50(by[viaDirect]) })
	relay := max(r.relay.Anon, r.node.Relay.Anon)
	return []target{
		{"added p50 of an empty call, beside the least Go relay's", "at most 1.2 ×", beside(least, added(viaTap), added(viaRelay)), least <= 1.2},
		{"the same, beside the grpc-go proxy's", "well under 0.5 ×", beside(grpc, added(viaTap), added(viaGRPC)), grpc < 0.45},
		{"empty calls/s at 16 at a time, beside the least Go relay's", "at least 0.8 ×, better 0.9 ×", rate.String(), rate.Median >= 0.8},
		{"p50 of a 16 MiB list, beside direct", "at most 1.10 ×", long.String(), long.Median <= 1.1},
		{"the relay's RssAnon with its mirror queue, at most", "under 8 MiB", mib(relay), relay < 8*mebi},
		{"the tap's RSS on a node of 110 pods, at most", "under 64 MiB", mib(r.node.Tap.RSS), r.node.Tap.RSS < 64*mebi},
	}
}

func beside(ratio, ours, theirs float64) string {
	return fmt.Sprintf("%.2f × (%s, %s)", ratio, duration(ours), duration(theirs))
}

func (r ratio) String() string {
	return fmt.Sprintf("%.2f × (%.2f to %.2f)", r.Median, r.Quarter, r.ThreeQuarters)
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/mebi) }
