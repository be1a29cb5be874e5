package phase

import (
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// The rules by which a call belongs to a phase. Each returns nil for a call that
// is a trace of its own.

// starting is the phase of a call that starts things: the pod's start, until it
// was told and also after that for containers and images that are new; and a
// restart where a container has been stopped before. A container that is made
// anew by itself (it has crashed) is no part of its pod's start, nor is a volume
// that is published again and again.
func (t *Tracker) starting(p *pod, r *call.Record, s *step) *phase {
	back := p.Gone && !r.Start.Before(p.goneAt)           // it was gone when this began
	anew := s.method == "RunPodSandbox" && p.hasStarted() // its sandbox went unseen
	if s.opens && (back || anew) {
		t.comeBack(p)
	}
	container := s.method == "CreateContainer" || s.method == "StartContainer"
	if p.start == nil {
		if p.Gone {
			return nil
		}
		p.start = t.begin(p, call.PodStart, r.Start)
		p.Begin = r.Start
		t.epochs.change(p.epoch)
	}
	switch {
	case container && p.containers[cut(containerName(r))]:
		if !p.turn.open() {
			return nil
		}
		if !p.turn.final {
			p.turn.Kind = call.ContainerRestart
		}
		return t.within(p.turn, r)
	case p.start.open(), r.Start.Before(p.start.End):
	case p.ran:
		return nil
	case p.start.runs.IsZero(): // told before its end was seen
	case container, s.method == "PullImage" && !p.images[cut(r.Image)]:
	default:
		return nil
	}
	if !r.Start.Before(p.torn) {
		p.torn = time.Time{}
	}
	if s.csi {
		t.adopt(p, r, s)
	}
	return t.within(p.start, r)
}

// stopping is the phase of a call that stops things. While nothing has started, a
// sandbox may be torn down to be made anew, and containers with it: that is part
// of the start. What no pod survives ends the start, but a volume's call only in
// a while: it is on another socket, and the one that starts a container may be
// placed after it. What is left of an earlier sandbox or container is tidied away
// at any time.
func (t *Tracker) stopping(p *pod, r *call.Record, s *step) *phase {
	if t.ofEarlier(p, r) {
		return nil
	}
	gaveUp := p.trying()
	if gaveUp {
		if !s.csi && (s.method != "RemovePodSandbox" || p.others(r.SandboxID)) {
			return t.within(p.start, r)
		}
		p.start.gaveUp = r.Start
		p.Gone, p.goneAt = true, r.Start
		t.epochs.change(p.epoch)
	}
	sandbox := s.final && !s.csi
	if sandbox && !p.sandboxes[r.SandboxID] && p.others(r.SandboxID) {
		return nil
	}
	if sandbox && p.start.open() {
		t.tell(p.start, p.start.soFar(), p.start.endOr(r.Start))
	}
	switch {
	case p.turn.open(), p.turn != nil && p.Gone:
		return t.within(p.turn, r)
	case !s.opens && !gaveUp, p.Gone && p.Turn > 0: // its stop has been told
		return nil
	}
	p.turn = t.begin(p, call.PodStop, r.Start)
	p.Stopping = r.Start
	t.epochs.change(p.epoch)
	return p.turn
}

// trying: the pod starts, and none of its containers has.
func (p *pod) trying() bool {
	return p.start.open() && p.start.runs.IsZero() && p.start.gaveUp.IsZero()
}

// ofEarlier: r is about a sandbox or container of an epoch that is over.
func (t *Tracker) ofEarlier(p *pod, r *call.Record) bool {
	for _, id := range [2]string{r.Container.ID, r.SandboxID} {
		if o, ok := t.owners[id]; ok && o.pod == p && o.n != p.N {
			return true
		}
	}
	return false
}

// within is ph if it still takes a call; one that is too long is told.
func (t *Tracker) within(ph *phase, r *call.Record) *phase {
	limit := ph.Begin.Add(maxAge)
	switch {
	case ph.Count >= maxCalls:
		t.tell(ph, call.Capped, ph.last)
	case r.Start.After(limit):
		t.tell(ph, call.Capped, limit)
	default:
		return ph
	}
	return nil
}

// comeBack begins p's next epoch.
func (t *Tracker) comeBack(p *pod) {
	t.tellAs(p, call.Stopped)
	t.dropVolumes(p)
	p.Epoch = Epoch{Pod: p.Pod, N: p.N + 1}
	*p = pod{epoch: p.epoch, used: p.used, owned: p.owned, held: p.held, place: p.place}
	p.traceID, p.spanID = ids(t.boot, p.epoch, call.PodStart)
	t.epochs.change(p.epoch)
}

// learn takes in what a call of a phase has changed.
func (t *Tracker) learn(p *pod, r *call.Record, s *step) {
	failed := r.Failed()
	switch s.method {
	case "PullImage":
		put(&p.images, cut(r.Image), true)
	case "NodeStageVolume", "NodePublishVolume":
		v := volume{r.Socket, r.Volume.ID}
		p.uses(t, v, p.volumes[v] || s.method == "NodePublishVolume" && !failed)
	}
	if failed {
		return
	}
	switch s.method {
	case "NodeUnpublishVolume":
		p.uses(t, volume{r.Socket, r.Volume.ID}, false)
	case "RunPodSandbox":
		if p.own(t, r.SandboxID) {
			put(&p.sandboxes, r.SandboxID, true)
		}
	case "CreateContainer", "StartContainer":
		name := cut(containerName(r))
		p.own(t, r.Container.ID)
		put(&p.containers, name, p.containers[name] || s.method == "StartContainer")
	case "RemoveContainer":
		delete(t.owners, r.Container.ID)
	case "StopPodSandbox", "RemovePodSandbox":
		t.sandboxGone(p, r)
		if s.method == "RemovePodSandbox" {
			delete(t.owners, r.SandboxID)
		}
	}
}

// sandboxGone: with the last one the epoch is over, unless the pod still tries. It
// may be over before: the volumes' socket is another.
func (t *Tracker) sandboxGone(p *pod, r *call.Record) {
	if t.ofEarlier(p, r) {
		return
	}
	if p.sandboxes[r.SandboxID] {
		p.sandboxes[r.SandboxID] = false
	}
	switch {
	case p.Gone, p.others(""):
	case p.trying():
		p.torn = r.End()
	default:
		p.Gone, p.goneAt = true, r.End()
		t.epochs.change(p.epoch)
	}
}
