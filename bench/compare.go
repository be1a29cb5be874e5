package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"
)

// results are all turns of a run, and what else it found.
type results struct {
	machine machine
	ways    []string
	turns   map[string]map[string][]*turn // by load, then way; one a round
	took    time.Duration

	account account // of the comparison
	relay   memory  // at its most, in the comparison
	tap     memory
	flood   flood
	node    node
}

// memory is the most that was seen of a process, in bytes.
type memory struct{ RSS, Anon int64 }

// watch reads what processes hold, ten times a second until the returned function is called, which gives the most.
func watch(all ...*process) (stop func() []memory) {
	done, result := make(chan struct{}), make(chan []memory)
	go func() {
		most := make([]memory, len(all))
		for {
			for i, p := range all {
				most[i].RSS = max(most[i].RSS, p.memory("VmRSS"))
				most[i].Anon = max(most[i].Anon, p.memory("RssAnon"))
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-done:
				result <- most
				return
			}
		}
	}()
	return func() []memory { close(done); return <-result }
}

// compare measures every way under every load, round by round.
func (b *bench) compare(ctx context.Context, rounds int) (*results, error) {
	begin := time.Now()
	server, ways, tap, err := b.ways(ctx)
	if err != nil {
		return nil, err
	}
	r := &results{machine: b.machine, turns: map[string]map[string][]*turn{}}
	for _, l := range loads {
		r.turns[l.name()] = map[string][]*turn{}
	}
	stop := watch(tap.relay, tap.tap)
	client := &process{name: "client", pid: os.Getpid()}
	for round := range rounds + 1 { // the first is for warming up
		for _, l := range loads {
			for _, w := range ways {
				runtime.GC() // the client's garbage is no way's fault
				t, err := w.play(ctx, l, append([]*process{client, server}, w.between...))
				if err == nil {
					err = tap.blind()
				}
				if err != nil {
					return nil, fmt.Errorf("%s, round %d: %w", l.name(), round, err)
				}
				if round > 0 {
					r.turns[l.name()][w.name] = append(r.turns[l.name()][w.name], t)
				}
			}
		}
		b.say("round %d of %d, %v", round, rounds, time.Since(begin).Round(time.Second))
	}
	most := stop()
	r.relay, r.tap = most[0], most[1]
	for _, w := range ways {
		r.ways = append(r.ways, w.name)
		if err := w.kubelet.Close(); err != nil {
			return nil, err
		}
	}
	r.took = time.Since(begin)
	if r.account, err = tap.end(ctx, ways[len(ways)-1].calls); err != nil {
		return nil, err
	}
	b.end()
	return r, nil
}
