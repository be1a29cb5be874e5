package tap

import "maps"

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
}

// Add adds what another tap has in hand.
func (n *Now) Add(o Now) {
	n.Decoded += o.Decoded
	n.Blind += o.Blind
	n.Opaque += o.Opaque
	if n.Running == nil {
		n.Running = map[string]int{}
	}
	for method, running := range o.Running {
		n.Running[method] += running
	}
}

// Now returns what there is in hand.
func (t *Tap) Now() Now {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := Now{Running: map[string]int{}}
	for _, c := range t.conns {
		switch {
		case c.opaque:
			n.Opaque++
		case c.gaveUp:
			n.Blind++
		default:
			n.Decoded++
			for path := range c.decoder.Paths() {
				n.Running[t.known(path)]++
			}
		}
	}
	return n
}

// known is "service/method" of a method that is known.
func (t *Tap) known(path string) string {
	service, method := splitPath(path)
	if t.cfg.APIs.Lookup(service, method) == nil {
		return ""
	}
	return service + "/" + method
}
