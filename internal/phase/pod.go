package phase

import (
	"container/list"
	"slices"
	"strings"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// pod is what is remembered of one: its epoch, and in this epoch its phases and
// what they made.
type pod struct {
	*epoch
	traceID, spanID string // of its start
	start           *phase // nil: none was seen in this epoch
	turn            *phase // its latest stop or restart; nil: none

	sandboxes  map[string]bool // true: live
	containers map[string]bool // by name; true: has started
	images     map[string]bool // a pull was tried
	volumes    map[volume]bool // true: published

	// ran: it runs, and what its start consisted of was not seen by this Tracker.
	ran bool
	// resumed: so is its start, which goes on.
	resumed bool
	goneAt  time.Time // when its last sandbox went
	torn    time.Time // the same, while it starts: another sandbox may follow
	used    time.Time
	owned   []string // keys of it in owners
	held    int      // its part of the Tracker's
	place   *list.Element
}

// volume is a volume as its driver's socket knows it.
type volume struct{ socket, id string }

// owner is whose sandbox or container an id is, and of which epoch.
type owner struct {
	pod *pod
	n   uint32
}

// fits: s names something, and is not too long to be remembered.
func fits(s string) bool { return s != "" && len(s) <= maxID }

// podOf finds the pod that r is about: by its UID or, where r has none, by what
// was placed before. A pod is remembered from the first call of a phase on.
func (t *Tracker) podOf(r *call.Record, s *step) *pod {
	uid := r.Pod.UID
	if uid != "" {
		if p := t.pods[uid]; p != nil || !fits(uid) {
			return p
		}
		if ep, ok := t.epochs.get(uid); ok {
			return t.remember(ep)
		}
		if s.part == starting || s.opens {
			return t.remember(t.epochs.add(Epoch{Pod: call.Pod{UID: strings.Clone(uid)}}))
		}
		return nil
	}
	if o, ok := t.owners[r.Container.ID]; ok {
		return o.pod
	}
	if o, ok := t.owners[r.SandboxID]; ok {
		return o.pod
	}
	if s.csi {
		return t.podOfVolume(volume{r.Socket, r.Volume.ID}, s)
	}
	return nil
}

// podOfVolume: a volume is staged for a pod that starts, and unstaged after the
// last pod that used it.
func (t *Tracker) podOfVolume(v volume, s *step) *pod {
	for _, p := range slices.Backward(t.volumes[v]) {
		if s.part == starting && p.start.open() || s.part == stopping && !p.volumes[v] {
			return p
		}
	}
	return nil
}

// remember makes room for a pod and goes on with what its epoch says.
func (t *Tracker) remember(ep *epoch) *pod {
	if len(t.pods) >= maxPods {
		t.evict(t.order.Back().Value.(*pod))
	}
	p := &pod{epoch: ep}
	p.traceID, p.spanID = ids(t.boot, ep, call.PodStart)
	p.place = t.order.PushFront(p)
	t.pods[ep.Pod.UID] = p
	if !ep.Begin.IsZero() {
		p.ran = ep.Told
		p.start = t.begin(p, call.PodStart, ep.Begin)
		p.start.runs, p.start.last = ep.Started, time.Time{}
		if ep.Told {
			p.start.told, p.start.End = true, ep.Started
			delete(t.open, p.start)
		} else if ep.Gone {
			p.start.gaveUp = ep.Stopping
		}
		p.resumed = !ep.Told
	}
	if !ep.Stopping.IsZero() {
		p.turn = t.begin(p, call.PodStop, ep.Stopping)
		p.turn.final, p.turn.last = ep.Gone, time.Time{}
	}
	return p
}

// evict ends a pod's phases, so that their calls keep a root, and forgets it.
func (t *Tracker) evict(p *pod) {
	t.tellAs(p, call.Capped)
	t.stats.Evicted++
	t.forget(p)
}

// makeRoom counts anew what is held of p, which is heard of, and has others make room
// where all of them hold too much.
func (t *Tracker) makeRoom(p *pod) {
	t.count(p)
	for t.held > maxHeld && t.order.Len() > 1 {
		t.evict(t.order.Back().Value.(*pod))
	}
}

func (t *Tracker) count(p *pod) {
	t.held -= p.held
	p.held = len(p.sandboxes) + len(p.containers) + len(p.images) + len(p.volumes) + len(p.owned)
	for _, ph := range []*phase{p.start, p.turn} {
		if ph != nil {
			p.held += len(ph.Calls) + len(ph.failing) + len(ph.Links)
		}
	}
	t.held += p.held
}

// forget drops all of a pod but its epoch.
func (t *Tracker) forget(p *pod) {
	t.held -= p.held
	for _, id := range p.owned {
		if t.owners[id].pod == p {
			delete(t.owners, id)
		}
	}
	t.dropVolumes(p)
	t.order.Remove(p.place)
	delete(t.pods, p.Pod.UID)
}

func (t *Tracker) dropVolumes(p *pod) {
	for v := range p.volumes {
		t.volumes[v] = without(t.volumes[v], p)
		if len(t.volumes[v]) == 0 {
			delete(t.volumes, v)
		}
	}
	p.volumes = nil
}

func without(all []*pod, p *pod) []*pod {
	return slices.DeleteFunc(all, func(q *pod) bool { return q == p })
}

// heard notes that there was a call about p, and its name if that says it.
func (t *Tracker) heard(p *pod, r *call.Record) {
	t.order.MoveToFront(p.place)
	p.used = r.End()
	t.named(p, r.Pod)
}

func (t *Tracker) named(p *pod, who call.Pod) {
	if p.Pod.Name == "" && who.Name != "" && who.UID != "" {
		p.Pod.Name, p.Pod.Namespace = cut(who.Name), cut(who.Namespace)
		t.epochs.change(p.epoch)
	}
}

// Named says a pod's name, which its calls may not have had.
func (t *Tracker) Named(who call.Pod) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.pods[who.UID]; p != nil {
		t.named(p, who)
	}
}

// Ran says that a container was there before this Tracker: a list of the
// runtime's shows it. That it is made anew is then not taken for its pod's start.
// Of a pod whose start was seen it says nothing. One that does not run (now: false)
// may be what is left in an earlier sandbox.
func (t *Tracker) Ran(who call.Pod, sandboxID, container string, now bool) {
	if !fits(who.UID) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pods[who.UID]
	if p == nil {
		ep, ok := t.epochs.get(who.UID)
		if !ok {
			ep = t.epochs.add(Epoch{Pod: who})
		}
		p = t.remember(ep)
	}
	_, seen := p.containers[cut(container)]
	switch {
	case p.start == nil, p.ran:
	case !p.resumed || seen || !now:
		return
	}
	if p.start == nil { // told, and not by us: no trace of it is known
		p.ran = true
		p.start = t.begin(p, call.PodStart, time.Time{})
		p.start.told = true
		delete(t.open, p.start)
	}
	if (now || len(p.sandboxes) == 0) && p.own(t, sandboxID) {
		clear(p.sandboxes)
		put(&p.sandboxes, sandboxID, true)
	}
	put(&p.containers, cut(container), true)
	t.order.MoveToFront(p.place)
	t.makeRoom(p)
}

// own notes that an id is p's, of this epoch, if it is one.
func (p *pod) own(t *Tracker, id string) bool {
	if !fits(id) {
		return false
	}
	if _, ok := t.owners[id]; !ok {
		if len(p.owned) >= 2*maxNames {
			delete(t.owners, p.owned[0])
			p.owned = slices.Delete(p.owned, 0, 1)
		}
		p.owned = append(p.owned, id)
	}
	t.owners[id] = owner{p, p.N}
	return true
}

// uses notes that p uses a volume, now or no more.
func (p *pod) uses(t *Tracker, v volume, published bool) {
	if !fits(v.id) || len(v.socket) > maxText || !put(&p.volumes, v, published) {
		return
	}
	t.volumes[v] = append(without(t.volumes[v], p), p)
}

// put notes key in a map that is made when it is needed, if there is room.
func put[K comparable](m *map[K]bool, key K, value bool) bool {
	if *m == nil {
		*m = map[K]bool{}
	}
	if _, ok := (*m)[key]; !ok && len(*m) >= maxNames {
		return false
	}
	(*m)[key] = value
	return true
}

// others: p has a live sandbox that is not this one.
func (p *pod) others(sandboxID string) bool {
	for id, live := range p.sandboxes {
		if live && id != sandboxID {
			return true
		}
	}
	return false
}

// isDown: nothing of p that was seen to come up is up.
func (p *pod) isDown() bool {
	for _, published := range p.volumes {
		if published {
			return false
		}
	}
	return !p.others("")
}

// hasStarted: a container of this epoch has.
func (p *pod) hasStarted() bool { return p.ran || !p.Started.IsZero() }
