package phase

import (
	"slices"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// waiting is a NodeStageVolume whose pod nobody knew: its paths do not name one.
// It has left as a trace of its own. The pod that publishes the volume counts it
// to its start, whose root links to it.
type waiting struct {
	call    call.PhaseCall
	link    call.Link
	message string
}

const (
	maxWaiting = 256 // volumes
	maxTries   = 16  // of each, the latest
	// A try is followed by the next, or by the publish, within retried: the kubelet waits
	// for two minutes between them at most. What is older was for another pod.
	retried = 5 * time.Minute
)

// await remembers a call of no known pod, if it stages a volume.
func (t *Tracker) await(r *call.Record, s *step) {
	v := volume{r.Socket, r.Volume.ID}
	if s.method != "NodeStageVolume" || r.Pod.UID != "" || !fits(v.id) || len(v.socket) > maxText {
		return
	}
	if _, ok := t.waiting[v]; !ok && len(t.waiting) >= maxWaiting {
		t.dropWaiting()
	}
	all := append(t.waiting[v], waiting{short(r, s), call.Link{TraceID: r.TraceID, SpanID: r.SpanID}, cutTo(r.Message, maxFirst)})
	if len(all) > maxTries {
		all = slices.Delete(all, 0, 1)
	}
	t.waiting[v] = all
}

// dropWaiting forgets the volume that was tried least recently.
func (t *Tracker) dropWaiting() {
	var oldest volume
	for v, all := range t.waiting {
		if o := t.waiting[oldest]; o == nil || last(all).Start.Before(last(o).Start) {
			oldest = v
		}
	}
	delete(t.waiting, oldest)
}

func last(all []waiting) call.PhaseCall { return all[len(all)-1].call }

// adopt counts to the start of p what waited for the volume that r publishes: so it
// has been staged by now, however often that failed.
func (t *Tracker) adopt(p *pod, r *call.Record, s *step) {
	v := volume{r.Socket, r.Volume.ID}
	tries := t.waiting[v]
	if len(tries) == 0 || !p.start.open() {
		return
	}
	delete(t.waiting, v)
	begin := r.Start
	for i, w := range slices.Backward(tries) {
		if begin.Sub(w.call.Start) > retried+w.call.Duration {
			tries = tries[i+1:]
			break
		}
		begin = w.call.Start
	}
	for _, w := range tries {
		w.call.Subject = cut(subject(r, s)) // by now its PV may be known
		t.note(p.start, w.call, steps["NodeStageVolume"], w.link, w.message)
		delete(p.start.failing, what{w.call.Method, w.call.Subject})
	}
}
