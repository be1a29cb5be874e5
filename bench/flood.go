package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// flooding is the one load that grpc-tap need not see all of: 256 MB are under way at once, more than its bounds hold (a queue of
// 2 MiB, a socket of 16, 32 read ahead), and a relay that waited for its tap would hold up the calls. A connection for which there
// is no room goes blind. So the rule that such a run does not count is not for this load: told is how much was seen.
var flooding = load{callBig, atOnce, 250 * time.Millisecond, big}

const floodRounds = 4

// flood is what grpc-tap saw of that load, and what it held.
type flood struct {
	account
	Whole       int64 // calls that were recorded to their end, not as lost
	Connections int
	OfDirect    ratio // calls/s
	Relay, Tap  memory
}

// flood measures that load with a grpc-tap of its own, and in each turn a connection of its own: one that is blind stays it.
func (b *bench) flood(ctx context.Context, r *results) error {
	in := func(name string) string { return filepath.Join(b.dir, "flood-"+name) }
	server, err := b.startRole(ctx, "runtime", in("runtime"), "")
	if err != nil {
		return err
	}
	relay, err := b.startRole(ctx, "relay", in("relay"), in("runtime"))
	if err != nil {
		return err
	}
	tap, err := b.startTap(ctx, in("tap"), in("runtime"), in("calls"))
	if err != nil {
		return err
	}
	stop := watch(tap.relay, tap.tap)
	ways := []*via{{name: viaDirect}, {name: viaRelay, between: []*process{relay}}, {name: viaTap, between: []*process{tap.relay, tap.tap}}}
	turns := map[string][]*turn{}
	for round := range floodRounds + 1 { // the first is for warming up
		for i, path := range []string{in("runtime"), in("relay"), in("tap")} {
			t, err := ways[i].visit(ctx, path, flooding, server)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", flooding.name(), round, err)
			}
			if round > 0 {
				turns[ways[i].name] = append(turns[ways[i].name], t)
			}
		}
	}
	most := stop()
	r.turns[flooding.name()] = turns
	r.flood = flood{Connections: floodRounds + 1, Relay: most[0], Tap: most[1]}
	r.flood.OfDirect = r.across(flooding, func(by map[string]*turn) float64 { return perSecond(by[viaTap]) / perSecond(by[viaDirect]) })
	if r.flood.account, err = tap.tell(ctx, ways[2].calls); err != nil {
		return err
	}
	printed, err := os.ReadFile(in("calls"))
	r.flood.Whole = int64(bytes.Count(printed, []byte(`"state":"done"`)))
	b.end()
	return err
}

// visit plays one turn on a connection of its own.
func (v *via) visit(ctx context.Context, path string, l load, server *process) (*turn, error) {
	var err error
	if v.kubelet, err = fakecri.NewKubelet(path); err != nil {
		return nil, err
	}
	t, err := v.play(ctx, l, append([]*process{{name: "client", pid: os.Getpid()}, server}, v.between...))
	if err != nil {
		return nil, err
	}
	return t, v.kubelet.Close()
}
