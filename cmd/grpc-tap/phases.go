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
	spans   *span.Exporter      // nil: none are exported
	metrics *metrics            // nil: none are served
	keep    func(call.Pod) bool // nil: none
	kept    []*call.Phase
	log     *slog.Logger
	fails   bool // to save was said to fail
	stop    chan struct{}
	ended   sync.WaitGroup
}

// newPhases follows phases until close. remember is the file by which a later tap
// goes on with them; empty: none does.
func newPhases(spans *span.Exporter, metrics *metrics, keep func(call.Pod) bool, remember string, log *slog.Logger) *phases {
	boot, err := phase.BootID()
	if err != nil {
		log.Warn("pods' traces are not those of another session", "cause", err)
	}
	var store phase.Store
	if remember != "" {
		store = phase.File{Path: remember, Boot: boot}
	}
	tracker, err := phase.New(boot, store)
	if err != nil {
		log.Warn("what the tap before has begun is not gone on with: pods' traces begin anew", "cause", err)
	}
	p := &phases{Tracker: tracker, spans: spans, metrics: metrics, keep: keep, log: log, stop: make(chan struct{})}
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
			p.save()
		case <-p.stop:
			return
		}
	}
}

// save stores what a later tap needs, and says once that it can't.
func (p *phases) save() {
	err := p.Save()
	if err != nil && !p.fails {
		p.log.Warn("pods' traces will not be gone on with by a later tap", "cause", err)
	}
	p.fails = err != nil
}

func (p *phases) tell(ended []*call.Phase, failing []*call.Failing) {
	if p.spans != nil {
		for _, e := range ended {
			e.Sampled = p.spans.SamplePhase(e)
		}
		p.spans.Phases(ended, failing)
	}
	if p.metrics != nil {
		p.metrics.Phases(ended)
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
// any more. goesOn: another tap follows them further, tells their roots and counts them,
// if it can know of them.
func (p *phases) close(goesOn bool) {
	close(p.stop)
	p.ended.Wait()
	p.tell(p.Tick(time.Now())) // the next tap is told that what is over was told
	if goesOn {
		if p.save(); !p.fails { // before all of them are over
			p.spans, p.metrics = nil, nil
		}
	}
	p.tell(p.Close(time.Now()))
}
