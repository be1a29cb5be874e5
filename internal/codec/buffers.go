package codec

// Buffers is the store of kept bytes that all connections of a process share:
// at most limit bytes in use, and freed ones used again.
type Buffers struct {
	limit int
	used  int // sum of capacities handed out
	free  [][]byte
}

const (
	firstBuffer = 512
	maxFree     = 64
)

// NewBuffers makes a store of at most limit bytes.
func NewBuffers(limit int) *Buffers { return &Buffers{limit: limit} }

// append grows b, which is nil or from here, by p; false: the store is full,
// and b as it was.
func (s *Buffers) append(b, p []byte) ([]byte, bool) {
	need := len(b) + len(p)
	if need <= cap(b) {
		return append(b, p...), true
	}
	grown, ok := s.get(max(need, 2*cap(b), firstBuffer))
	if !ok {
		return b, false
	}
	grown = append(append(grown, b...), p...)
	s.put(b)
	return grown, true
}

func (s *Buffers) get(size int) ([]byte, bool) {
	if n := len(s.free) - 1; n >= 0 && cap(s.free[n]) >= size && s.used+cap(s.free[n]) <= s.limit {
		b := s.free[n]
		s.free = s.free[:n]
		s.used += cap(b)
		return b[:0], true
	}
	if s.used+size > s.limit {
		return nil, false
	}
	s.used += size
	return make([]byte, 0, size), true
}

// put takes b back.
func (s *Buffers) put(b []byte) {
	if cap(b) == 0 {
		return
	}
	s.used -= cap(b)
	if len(s.free) < maxFree {
		s.free = append(s.free, b[:0])
	}
}
