package main

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/phase"
	"github.com/grpc-tap/grpc-tap/internal/span"
)

// keptPhases bounds the phases that are kept for a session's end; the latest are.
const keptPhases = 100

// phases has pods' starts and stops told while a session runs: their roots to the
// collector, and those of the pod that was asked for kept for the end.
type phases struct {
	*phase.Tracker
	spans *span.Exporter      // nil: none are exported
	keep  func(call.Pod) bool // nil: none
	kept  []*call.Phase
	stop  chan struct{}
	ended sync.WaitGroup
}

// newPhases follows phases until close.
func newPhases(spans *span.Exporter, keep func(call.Pod) bool, log *slog.Logger) *phases {
	boot, err := phase.BootID()
	if err != nil {
		log.Warn("pods' traces are not those of another session", "cause", err)
	}
	tracker, _ := phase.New(boot, nil) // without a store nothing can fail
	p := &phases{Tracker: tracker, spans: spans, keep: keep, stop: make(chan struct{})}
	p.ended.Go(p.follow)
	return p
}

func (p *phases) follow() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			p.tell(p.Tick(now))
		case <-p.stop:
			return
		}
	}
}

func (p *phases) tell(ended []*call.Phase, failing []*call.Failing) {
	if p.spans != nil {
		p.spans.Phases(ended, failing)
	}
	for _, e := range ended {
		if p.keep == nil || !p.keep(e.Pod) {
			continue
		}
		if len(p.kept) == keptPhases {
			p.kept = slices.Delete(p.kept, 0, 1)
		}
		p.kept = append(p.kept, e)
	}
}

// close tells the phases that are not over yet as they are: nobody places a call
// any more. goesOn: another tap follows them further, and tells their roots.
func (p *phases) close(goesOn bool) {
	close(p.stop)
	p.ended.Wait()
	if goesOn {
		p.spans = nil
	}
	p.tell(p.Close(time.Now()))
}
