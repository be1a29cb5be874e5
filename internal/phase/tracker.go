// Package phase puts calls into the traces of pods: the start of a pod, and its
// stop, are a trace each, with one root span over the calls that it took.
//
//	Record ──▶ Place: which pod? which of its phases? ──▶ its trace and parent
//	              └ Tick: phases that have ended, phases that are failing
//
// Its rule: what trace a call is in is decided when the call has ended, by what
// was placed before it, and never taken back; so every parent that was given out
// is a root that will be told, once. Ids are derived and a few times of each pod
// are stored, so that this holds across the taps of one boot of the node.
//
// It reads no clock and does no I/O but where Save is called.
package phase

import (
	"cmp"
	"container/list"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

const (
	// quiet is how long nothing must happen before a phase is taken to be over.
	// CRI never tells how many containers a pod is to have, nor which of them are
	// init containers: only that nothing more comes says that it has started. The
	// root's end is that of the last StartContainer, so waiting costs no accuracy.
	quiet = 20 * time.Second
	// A phase is told at the latest when it is maxAge old or has maxCalls: a
	// trace is to be read, and backends want it in one piece.
	maxAge   = 15 * time.Minute
	maxCalls = 1000
	// failingEvery is how often a phase says that it is failing.
	failingEvery = time.Minute
)

// What is remembered. The pod that was heard of least recently goes first.
const (
	maxPods    = 4096
	maxRunning = 4096 // calls
	maxNames   = 256  // containers, images, volumes, sandboxes of a pod, each
	maxShort   = 64   // calls of a phase in short
	maxLinks   = 16
	// maxHeld bounds these names and calls of all pods together: 500 pods that all
	// start, with ten containers each, have 40,000.
	maxHeld  = 1 << 16
	maxText  = 256     // bytes of a name or a note
	maxID    = 128     // bytes of a UID or an id: what is longer is none
	maxFirst = 4 << 10 // bytes of a last failure's message
)

// Tracker knows the phases of a node's pods. It is shared by the taps of all
// sockets, and its methods may be called from several goroutines; records of one
// socket are to be placed in the order in which their calls ended.
type Tracker struct {
	boot  string
	store Store

	mu      sync.Mutex
	pods    map[string]*pod
	order   *list.List        // of *pod, the one heard of latest in front
	owners  map[string]owner  // by sandbox or container id
	volumes map[volume][]*pod // the one that used it latest last
	waiting map[volume][]waiting
	open    map[*phase]struct{}
	running map[running]*call.Record
	held    int       // names and calls of all pods
	runtime time.Time // when a call to the runtime ended last
	epochs  epochs
	ended   []*call.Phase
	failing []*call.Failing
	stats   Stats
}

// Stats count what was not remembered.
type Stats struct {
	Evicted uint64 // pods that had to make room: what was open of them is told as capped
	Dropped uint64 // phases and notices that nobody came for
}

// New makes a Tracker for this boot of the node, which goes on where the one
// before stopped. store may be nil. The error is that of the store, and leaves a
// Tracker that begins anew.
func New(boot string, store Store) (*Tracker, error) {
	t := &Tracker{
		boot: boot, store: store,
		pods: map[string]*pod{}, order: list.New(), owners: map[string]owner{},
		volumes: map[volume][]*pod{}, waiting: map[volume][]waiting{},
		open: map[*phase]struct{}{}, running: map[running]*call.Record{}, epochs: epochs{byUID: map[string]*epoch{}},
	}
	if store == nil {
		return t, nil
	}
	all, err := store.Load()
	for _, e := range all {
		if !fits(e.Pod.UID) {
			continue
		}
		ep := t.epochs.add(e)
		t.epochs.change(ep)
		if !e.Begin.IsZero() && !e.Told || !e.Stopping.IsZero() {
			t.remember(ep)
		}
	}
	t.epochs.saved = t.epochs.changes
	return t, err
}

// running is a call that has not ended.
type running struct {
	socket     string
	connection uint64
	stream     uint32
}

func runningOf(r *call.Record) running { return running{r.Socket, r.Connection, r.Stream} }

// Follows says whether a method's calls are a part of a pod's start or stop.
func (t *Tracker) Follows(service, method string) bool { return stepFor(service, method) != none }

// Begin notes a call that Follows, and runs: it keeps its pod's phase open until
// it is placed. The record is the Tracker's from then on.
func (t *Tracker) Begin(r *call.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.running) < maxRunning {
		t.running[runningOf(r)] = r
	}
}

// Place gives a call that has ended its place: r's trace, parent and pod trace.
// It is to be called before any sink sees r. A call that the caller has sampled
// stays where the caller put it. A call that names no pod is told whose it is, where
// that is known.
func (t *Tracker) Place(r *call.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, runningOf(r))
	if strings.HasPrefix(r.Service, "runtime.") && r.End().After(t.runtime) {
		t.runtime = r.End()
	}
	s := stepOf(r)
	if s.method == "NodeUnstageVolume" { // whoever tried to have it does so no more
		delete(t.waiting, volume{r.Socket, r.Volume.ID})
	}
	p := t.podOf(r, s)
	if p == nil {
		t.await(r, s)
		return
	}
	t.heard(p, r)
	if r.Pod.UID == "" {
		r.Pod = p.Pod
	}
	var ph *phase
	switch s.part {
	case starting:
		ph = t.starting(p, r, s)
	case stopping:
		ph = t.stopping(p, r, s)
	}
	if ph != nil {
		t.take(ph, r, s)
	}
	if s.part != neither {
		t.learn(p, r, s)
		t.makeRoom(p)
	}
	if !p.Begin.IsZero() {
		r.PodTraceID, r.PodSpanID = p.traceID, p.spanID
	}
}

// Tick tells the phases that have ended and the notices of those that fail,
// since the last time. Call it once a second.
func (t *Tracker) Tick(now time.Time) ([]*call.Phase, []*call.Failing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, r := range t.running {
		if now.Sub(r.Start) > maxAge { // its end went unseen, or matters no more
			delete(t.running, id)
			continue
		}
		t.goesOn(r, now)
	}
	for _, ph := range t.openPhases() {
		if how, end, over := ph.over(now, now.Sub(t.runtime) >= quiet); over {
			t.tell(ph, how, end)
		} else if len(ph.failing) > 0 && now.Sub(ph.noticed) >= failingEvery {
			t.notice(ph, now)
		}
	}
	for _, p := range t.pods {
		if p.Gone && !p.start.open() && !p.turn.open() && now.Sub(p.used) > maxAge {
			t.forget(p)
		}
	}
	return t.due()
}

// Close tells every phase that is open, for a session after which no tap goes on
// with them.
func (t *Tracker) Close(now time.Time) ([]*call.Phase, []*call.Failing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ph := range t.openPhases() {
		t.tell(ph, ph.soFar(), ph.endOr(now))
	}
	return t.due()
}

// Save stores what has changed since it was last called. It may wait for a disk,
// and nobody waits for it meanwhile.
func (t *Tracker) Save() error {
	if t.store == nil {
		return nil
	}
	t.mu.Lock()
	changes := t.epochs.changes
	if changes == t.epochs.saved {
		t.mu.Unlock()
		return nil
	}
	var all []Epoch
	for _, ep := range t.epochs.oldestFirst() {
		all = append(all, ep.Epoch)
	}
	t.mu.Unlock()
	if err := t.store.Save(all); err != nil {
		return err
	}
	t.mu.Lock()
	t.epochs.saved = changes
	t.mu.Unlock()
	return nil
}

// Stats returns the counts so far.
func (t *Tracker) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats
}

// openPhases are those, the oldest first.
func (t *Tracker) openPhases() []*phase {
	all := make([]*phase, 0, len(t.open))
	for ph := range t.open {
		all = append(all, ph)
	}
	slices.SortFunc(all, func(a, b *phase) int {
		return cmp.Or(a.Begin.Compare(b.Begin), cmp.Compare(a.SpanID, b.SpanID))
	})
	return all
}
