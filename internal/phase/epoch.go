package phase

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// Epoch is what must outlive a tap so that the next one goes on with the same
// traces, and no root is told twice or never: which life of the pod this is, and
// which of its phases have begun and were told. Times are zero where not.
//
// A pod's first life is epoch 0. The next begins when it comes back after its
// last sandbox has gone: a static pod keeps its UID.
type Epoch struct {
	Pod  call.Pod `json:"pod"`
	N    uint32   `json:"epoch,omitempty"`
	Gone bool     `json:"gone,omitempty"` // its last sandbox: the next start is of epoch N+1

	Begin   time.Time `json:"begin,omitzero"`   // of its start
	Started time.Time `json:"started,omitzero"` // its latest container
	Told    bool      `json:"told,omitempty"`   // its start

	Turn     uint32    `json:"turn,omitempty"`    // stops and restarts told
	Stopping time.Time `json:"stopping,omitzero"` // since when it stops or restarts, untold
}

// Store keeps epochs, the oldest change first.
type Store interface {
	Load() ([]Epoch, error)
	Save([]Epoch) error
}

// epoch is an Epoch and the number of its latest change.
type epoch struct {
	Epoch
	changed uint64
}

// epochs are those of pods known and of some that were.
type epochs struct {
	byUID   map[string]*epoch
	changes uint64
	saved   uint64 // of changes
}

func (e *epochs) get(uid string) (*epoch, bool) {
	got, ok := e.byUID[uid]
	return got, ok
}

// add remembers one more, and forgets a quarter, those unchanged the longest,
// where there are too many.
func (e *epochs) add(ep Epoch) *epoch {
	if len(e.byUID) >= maxPods {
		for _, old := range e.oldestFirst()[:maxPods/4] {
			delete(e.byUID, old.Pod.UID)
		}
	}
	added := &epoch{Epoch: ep}
	e.byUID[ep.Pod.UID] = added
	return added
}

// change notes that ep is to be saved.
func (e *epochs) change(ep *epoch) {
	e.changes++
	ep.changed = e.changes
}

func (e *epochs) oldestFirst() []*epoch {
	all := make([]*epoch, 0, len(e.byUID))
	for _, ep := range e.byUID {
		all = append(all, ep)
	}
	slices.SortFunc(all, func(a, b *epoch) int { return cmp.Compare(a.changed, b.changed) })
	return all
}

// ids derives the trace and the root span of a phase. That it depends on nothing
// else is what lets a restarted tap go on with the trace; the boot id sets apart
// a static pod's lives before and after a reboot of the node.
func ids(boot string, ep *epoch, kind call.PhaseKind) (traceID, spanID string) {
	turn := ep.Turn
	if kind == call.PodStart {
		turn = 0
	}
	return hash(fmt.Sprintf("grpc-tap\x00%s\x00%s\x00%d\x00%s\x00%d", boot, ep.Pod.UID, ep.N, kind, turn))
}

// hash makes two ids of s, neither of which is all zero.
func hash(s string) (traceID, spanID string) {
	sum := sha256.Sum256([]byte(s))
	sum[15] |= 1
	sum[23] |= 1
	return hex.EncodeToString(sum[:16]), hex.EncodeToString(sum[16:24])
}
