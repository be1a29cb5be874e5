package phase

import (
	"slices"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// phase is a call.Phase in the making.
type phase struct {
	call.Phase
	pod  *pod
	told bool // it is over: what still joins it is only placed

	last    time.Time // when a call of it ended or ran; zero: not since we came
	runs    time.Time // the end of its latest StartContainer
	gaveUp  time.Time // when its pod's stop began, though none had ended yet
	final   bool      // it has a call that no pod survives
	runtime bool      // it has a call to the runtime
	done    []done
	failing map[what]bool // whose latest call failed
	failed  time.Time     // the end of the latest that did
	noticed time.Time
}

// done is when the last call of a step succeeded.
type done struct {
	name string
	at   time.Time
}

// what a call did to what: a retry has the same.
type what struct{ method, subject string }

func (ph *phase) open() bool { return ph != nil && !ph.told }

func (t *Tracker) begin(p *pod, kind call.PhaseKind, at time.Time) *phase {
	ph := &phase{pod: p, last: at}
	ph.Kind, ph.Begin = kind, at
	ph.TraceID, ph.SpanID = ids(t.boot, p.epoch, kind)
	t.open[ph] = struct{}{}
	return ph
}

// take puts r into a phase: into its trace, under its root, unless r's caller
// has sampled it and so has the span above it.
func (t *Tracker) take(ph *phase, r *call.Record, s *step) {
	var native call.Link
	if r.NativeParent && r.ParentSampled {
		native = call.Link{TraceID: r.TraceID, SpanID: r.SpanID}
	} else {
		r.TraceID, r.ParentSpanID, r.PodParent = ph.TraceID, ph.SpanID, true
		r.ParentSampled, r.TraceState = false, ""
	}
	c := short(r, s)
	t.note(ph, c, s, native, r.Message)
	if c.Failed && !ph.told && (ph.noticed.IsZero() || r.End().Sub(ph.noticed) >= failingEvery) {
		t.notice(ph, r.End())
	}
}

// note adds a call to what will be told of a phase.
func (t *Tracker) note(ph *phase, c call.PhaseCall, s *step, native call.Link, message string) {
	ph.Count++
	end := c.Start.Add(c.Duration)
	if s.method == "StartContainer" && !c.Failed && end.After(ph.runs) {
		ph.runs = end
		if ph.Kind == call.PodStart {
			ph.pod.Started = end
			t.epochs.change(ph.pod.epoch)
		}
	}
	if ph.told {
		return
	}
	if c.Start.Before(ph.Begin) {
		ph.Begin = c.Start
	}
	if end.After(ph.last) {
		ph.last = end
	}
	ph.final = ph.final || s.final
	ph.runtime = ph.runtime || !s.csi
	ph.Calls = append(ph.Calls, c)
	if len(ph.Calls) > maxShort {
		ph.Calls = slices.Delete(ph.Calls, maxShort/2, maxShort/2+1)
	}
	if native.TraceID != "" && len(ph.Links) < maxLinks && !slices.ContainsFunc(ph.Links, func(l call.Link) bool { return l.TraceID == native.TraceID }) {
		ph.Links = append(ph.Links, native)
	}
	if !c.Failed {
		ph.succeed(c, s, end)
		return
	}
	ph.fail(c, end, message)
}

func (ph *phase) succeed(c call.PhaseCall, s *step, end time.Time) {
	delete(ph.failing, what{c.Method, c.Subject})
	if s.method == "StopPodSandbox" { // has stopped its containers too
		for w := range ph.failing {
			if w.method == "StopContainer" {
				delete(ph.failing, w)
			}
		}
	}
	ph.done = slices.DeleteFunc(ph.done, func(d done) bool { return d.name == s.name })
	ph.done = append(ph.done, done{s.name, end})
}

func (ph *phase) fail(c call.PhaseCall, end time.Time, message string) {
	ph.Failures++
	ph.failed = end
	ph.LastFailure = call.Failure{Method: c.Method, Subject: c.Subject, Code: c.Code, Message: cutTo(message, maxFirst)}
	put(&ph.failing, what{c.Method, c.Subject}, true)
}

// notice says that ph is failing.
func (t *Tracker) notice(ph *phase, at time.Time) {
	ph.noticed = at
	_, spanID := hash(ph.SpanID + at.UTC().Format(time.RFC3339Nano))
	if len(t.failing) >= maxPods {
		t.stats.Dropped++
		return
	}
	t.failing = append(t.failing, &call.Failing{
		Kind: ph.Kind, Pod: ph.pod.Pod, TraceID: ph.TraceID, SpanID: spanID, ParentSpanID: ph.SpanID,
		Begin: ph.failed, End: at, Failures: ph.Failures, Failure: ph.LastFailure,
	})
}

// over says whether ph has ended, how and when. deaf: nothing is heard of the
// runtime, as where only a driver's socket is tapped; how a start goes on after its
// volumes is not seen then.
func (ph *phase) over(now time.Time, deaf bool) (how call.Outcome, end time.Time, over bool) {
	if ph.last.IsZero() { // of a tap before us: what goes on will be heard soon
		ph.last = now
	}
	silent := now.Sub(ph.last) >= quiet
	limit := ph.Begin.Add(maxAge)
	switch soFar := ph.soFar(); {
	case !ph.gaveUp.IsZero():
		return soFar, ph.endOr(ph.last), now.Sub(ph.gaveUp) >= quiet
	case silent && len(ph.failing) == 0 && soFar != call.Unfinished:
		return soFar, ph.endOr(ph.last), true
	case silent && len(ph.failing) == 0 && ph.Kind == call.PodStart && !ph.runtime && deaf:
		return call.Unfinished, ph.last, true
	case silent && ph.Kind == call.PodStart && !ph.pod.torn.IsZero():
		return call.GaveUp, ph.pod.torn, true
	case now.Before(limit):
		return "", time.Time{}, false
	}
	if ph.Kind == call.PodStop && !ph.final {
		ph.Kind = call.ContainerRestart // nothing but a container was stopped
	}
	return call.Capped, limit, true
}

// soFar is ph's outcome if nothing more follows.
func (ph *phase) soFar() call.Outcome {
	switch {
	case ph.Kind == call.PodStart && !ph.runs.IsZero():
		return call.Started
	case !ph.gaveUp.IsZero():
		return call.GaveUp
	case ph.Kind == call.ContainerRestart && !ph.runs.IsZero():
		return call.Restarted
	case ph.Kind == call.PodStop && ph.final && ph.pod.isDown():
		return call.Stopped
	}
	return call.Unfinished
}

// endOr is when the last container of ph has started or, where none did, when it
// gave up, or at.
func (ph *phase) endOr(at time.Time) time.Time {
	switch {
	case !ph.runs.IsZero():
		return ph.runs
	case !ph.gaveUp.IsZero():
		return ph.gaveUp
	}
	return at
}

// goesOn notes that a call of one of its pod's phases runs.
func (t *Tracker) goesOn(r *call.Record, now time.Time) {
	s := stepOf(r)
	p := t.podOf(r, none)
	if p == nil {
		return
	}
	for _, ph := range []*phase{p.start, p.turn} {
		if ph.open() && (s.part == starting && ph.Kind != call.PodStop || s.part == stopping && ph.Kind != call.PodStart) {
			ph.last = now
		}
	}
}

// tell ends ph: its root is handed out, and no other of its ids will be.
func (t *Tracker) tell(ph *phase, how call.Outcome, end time.Time) {
	if !ph.open() {
		return
	}
	ep := ph.pod.epoch
	ph.told, ph.Outcome, ph.End, ph.Phase.Pod = true, how, end, ep.Pod
	if end.Before(ph.Begin) {
		ph.End = ph.Begin
	}
	told := ph.Phase
	// Calls are placed as they end, but those of two sockets in no order.
	slices.SortStableFunc(told.Calls, func(a, b call.PhaseCall) int {
		return a.Start.Add(a.Duration).Compare(b.Start.Add(b.Duration))
	})
	slices.SortStableFunc(ph.done, func(a, b done) int { return a.at.Compare(b.at) })
	for _, d := range ph.done {
		told.Steps = append(told.Steps, call.Step{Name: d.name, Took: d.at.Sub(ph.Begin)})
	}
	if how == call.GaveUp {
		ep.Gone, ph.pod.goneAt = true, ph.End
	}
	if ph.Kind == call.PodStart {
		ep.Told, ep.Begin = true, ph.Begin
	} else {
		ep.Turn++
		ep.Stopping = time.Time{}
		if !ep.Begin.IsZero() {
			told.Links = append(told.Links, call.Link{TraceID: ph.pod.traceID, SpanID: ph.pod.spanID})
		}
	}
	t.epochs.change(ep)
	delete(t.open, ph)
	ph.Calls, ph.Links, ph.done, ph.failing, ph.LastFailure = nil, nil, nil, nil, call.Failure{}
	t.count(ph.pod)
	if len(t.ended) >= maxPods {
		t.stats.Dropped++
		return
	}
	t.ended = append(t.ended, &told)
}

// tellAs ends all phases of p, which is as good as their own end would be; those
// that had none yet end as it says.
func (t *Tracker) tellAs(p *pod, otherwise call.Outcome) {
	for _, ph := range []*phase{p.start, p.turn} {
		if !ph.open() {
			continue
		}
		how := ph.soFar()
		if how == call.Unfinished {
			how = otherwise
		}
		t.tell(ph, how, ph.endOr(ph.last))
	}
}

// due hands out what was told since the last time.
func (t *Tracker) due() ([]*call.Phase, []*call.Failing) {
	ended, failing := t.ended, t.failing
	t.ended, t.failing = nil, nil
	return ended, failing
}
