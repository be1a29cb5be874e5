package tap

import (
	"maps"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
)

// Stats count what a tap saw and what it could not see.
type Stats struct {
	Calls       uint64
	Running     int // calls that had not ended
	Connections uint64
	Blind       uint64 // connections that were relayed but not decoded to their end
	Old         uint64 // connections that were open before the tap came
	Opaque      uint64 // connections that spoke no HTTP/2
	Refused     uint64 // clients closed because the upstream did not answer
	OverLimit   uint64 // calls not recorded because too many were open at once
	// DroppedBytes were relayed, but did not fit the mirror's queue.
	DroppedBytes uint64
	// GaveUp counts decoders that ended early, by reason.
	GaveUp map[string]uint64
	// Remaining is the number of connections that outlived the detach.
	Remaining int
}

// Add adds the counts of another tap.
func (s *Stats) Add(o Stats) {
	s.Calls += o.Calls
	s.Running += o.Running
	s.Connections += o.Connections
	s.Blind += o.Blind
	s.Old += o.Old
	s.Opaque += o.Opaque
	s.Refused += o.Refused
	s.OverLimit += o.OverLimit
	s.DroppedBytes += o.DroppedBytes
	s.Remaining += o.Remaining
	gaveUp := maps.Clone(s.GaveUp) // which another sum may have too
	if gaveUp == nil {
		gaveUp = map[string]uint64{}
	}
	for token, n := range o.GaveUp {
		gaveUp[token] += n
	}
	s.GaveUp = gaveUp
}

// Stats returns the counts so far.
func (t *Tap) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	s.GaveUp = maps.Clone(s.GaveUp)
	s.DroppedBytes = t.dropped
	for _, c := range t.conns {
		s.Running += c.decoder.Running()
		s.OverLimit += c.decoder.OverLimit()
		s.DroppedBytes += c.dropped
	}
	return s
}

// Now is what a tap has in hand at a moment.
type Now struct {
	// Connections that are open: those that are decoded, those that can't be any
	// more or never could, and those that speak no HTTP/2.
	Decoded, Blind, Opaque int
	// Running are the calls that have not ended, by "service/method"; "" are those
	// of methods that nobody knows.
	Running map[string]int
	// Oldest is when the first of them began, streams left out.
	Oldest map[string]time.Time
}

// Add adds what another tap has in hand.
func (n *Now) Add(o Now) {
	n.Decoded += o.Decoded
	n.Blind += o.Blind
	n.Opaque += o.Opaque
	if n.Running == nil {
		n.Running, n.Oldest = map[string]int{}, map[string]time.Time{}
	}
	for method, running := range o.Running {
		n.Running[method] += running
	}
	for method, began := range o.Oldest {
		n.older(method, began)
	}
}

func (n *Now) older(method string, began time.Time) {
	if first, ok := n.Oldest[method]; !ok || began.Before(first) {
		n.Oldest[method] = began
	}
}

// Now returns what there is in hand.
func (t *Tap) Now() Now {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := Now{Running: map[string]int{}, Oldest: map[string]time.Time{}}
	for _, c := range t.conns {
		switch {
		case c.opaque:
			n.Opaque++
		case c.gaveUp:
			n.Blind++
		default:
			n.Decoded++
			for path, began := range c.decoder.Open() {
				n.runs(t.method(path), began)
			}
		}
	}
	for method, began := range n.Oldest {
		n.Oldest[method] = t.wall.Of(began)
	}
	return n
}

// runs counts a call that has not ended. A stream is meant to go on, and so may be one
// that nobody knows: it is no old call.
func (n *Now) runs(m *schema.Method, began time.Time) {
	if m == nil {
		n.Running[""]++
		return
	}
	name := m.Service + "/" + m.Name
	n.Running[name]++
	if !m.ClientStreaming && !m.ServerStreaming {
		n.older(name, began)
	}
}

// method is nil for one that nobody knows.
func (t *Tap) method(path string) *schema.Method { return t.cfg.APIs.Lookup(splitPath(path)) }
