package tap

import (
	"slices"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
	"github.com/grpc-tap/grpc-tap/internal/identity"
)

const (
	// holdFor is how long a record whose pod has no name yet is held back for it. A
	// volume is published before anybody says the name of its pod, by a third of a
	// second or more. With what else takes time on the way, a record is on stdout
	// within a second of its call's end.
	holdFor = 700 * time.Millisecond
	// lookEvery is how often it is looked whether the name has come.
	lookEvery = 50 * time.Millisecond
	// maxHeld bounds the records that are held, of a node's taps together.
	maxHeld = 1024
)

// Phases gives a call its place in its pod's trace.
type Phases interface {
	// Follows says whether a method's calls are a part of a pod's start or stop.
	Follows(service, method string) bool
	// Begin is told of a call that Follows, and runs.
	Begin(*call.Record)
	// Place is told of each call that has ended.
	Place(*call.Record)
	// Named is told of a pod that a list names: calls that were placed may have had
	// its UID alone.
	Named(call.Pod)
	// Ran is told of a container that was there before anybody looked, and whether
	// it runs now.
	Ran(pod call.Pod, sandboxID, container string, now bool)
}

// Out is where the records of a node's taps come together: each is completed by
// what all of them have learned, placed in its pod's trace, and handed to the
// sinks. A record whose pod has no name yet is held back for a moment, if the name
// may come.
type Out struct {
	pods   *identity.Map
	phases Phases // nil: each call is a trace of its own
	sinks  []*Queue
	// Sample says whether a record's span is to be exported. Nil: none is. It is set
	// before the first record comes.
	Sample func(*call.Record) bool
	// Stranger is called when a record is held back, and must not wait. It may be nil,
	// and is set before the first record comes.
	Stranger func(*call.Record)

	mu     sync.Mutex
	held   []*held // those held longest first
	look   *time.Timer
	closed bool
}

// held is a record that waits for its pod's name.
type held struct {
	*call.Record
	until  time.Time
	placed bool
}

// NewOut makes an Out; phases may be nil.
func NewOut(pods *identity.Map, phases Phases, sinks ...*Queue) *Out {
	return &Out{pods: pods, phases: phases, sinks: sinks}
}

func (o *Out) follows(service, method string) bool {
	return o.phases != nil && o.phases.Follows(service, method)
}

// began takes in a call that follows, and has begun.
func (o *Out) began(r *call.Record, f schema.Facts) {
	o.pods.Complete(r, f)
	o.phases.Begin(r)
}

// Listed takes in an object that a response tells of. asked are the facts of the
// request.
func (o *Out) Listed(e *schema.Listed, asked schema.Facts) {
	f, news := o.pods.Learn(e, asked)
	if !news || o.phases == nil {
		return
	}
	pod := call.Pod{Namespace: f.PodNamespace, Name: f.PodName, UID: f.PodUID}
	o.phases.Named(pod)
	if f.ContainerID != "" && e.Ran() {
		o.phases.Ran(pod, f.SandboxID, f.ContainerName, e.Runs())
	}
}

// ended takes a call that has ended. Where a record says which pod it is about, its
// place is found at once: the order of calls is what tells a start from a restart.
func (o *Out) ended(r *call.Record, f schema.Facts) {
	o.pods.Complete(r, f)
	h := &held{Record: r}
	if r.Pod.UID != "" || !lacks(r) {
		o.place(h)
	}
	if !lacks(r) || !o.hold(h) {
		o.give(h)
	}
}

// lacks: r is about a pod, and does not say which, or not by name.
func lacks(r *call.Record) bool {
	switch {
	case r.Pod.UID != "" && r.Pod.Name != "":
		return false
	case r.Pod.UID != "", r.Container.ID != "", r.SandboxID != "":
		return true
	case r.Service != "csi.v1.Node":
		return false
	}
	// After one that failed, what would name the pod does not follow.
	return r.Method == "NodeStageVolume" && !r.Failed() || r.Method == "NodeUnstageVolume"
}

func (o *Out) place(h *held) {
	if o.phases != nil && !h.placed {
		o.phases.Place(h.Record)
	}
	h.placed = true
}

// give hands a record to the sinks: it is not changed any more.
func (o *Out) give(h *held) {
	o.place(h)
	h.Sampled = o.Sample != nil && o.Sample(h.Record)
	for _, q := range o.sinks {
		q.put(h.Record)
	}
}

// hold keeps a record back, if there is room.
func (o *Out) hold(h *held) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || len(o.held) == maxHeld {
		return false
	}
	h.until = time.Now().Add(holdFor)
	o.held = append(o.held, h)
	if o.look == nil {
		o.look = time.AfterFunc(lookEvery, o.release)
	} else if len(o.held) == 1 {
		o.look.Reset(lookEvery)
	}
	if o.Stranger != nil {
		o.Stranger(h.Record)
	}
	return true
}

// release lets go of the records whose pod has a name by now, and of those that
// have waited for too long.
func (o *Out) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.held = slices.DeleteFunc(o.held, func(h *held) bool {
		o.pods.Fill(h.Record)
		if h.Pod.UID != "" { // the name may still come
			o.place(h)
		}
		if lacks(h.Record) && now.Before(h.until) && !o.closed {
			return false
		}
		o.give(h)
		return true
	})
	if len(o.held) > 0 {
		o.look.Reset(lookEvery)
	}
}

// Close lets go of all that is held. What comes after is not held any more.
func (o *Out) Close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.release()
}
