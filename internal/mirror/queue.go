package mirror

// queue is a ring of bytes. It grows to its limit by use only: whenever it runs
// empty it starts again at its first page, so a quiet relay keeps few pages.
// Not safe for concurrent use, but for this: the bytes that peek returned stay
// as they are until discard, so they may be written out without the lock.
type queue struct {
	ring []byte
	head int // next byte to read
	used int
}

func (q *queue) free() int { return len(q.ring) - q.used }

// push appends a then b. The caller has made sure that they fit.
func (q *queue) push(a, b []byte) {
	q.append(a)
	q.append(b)
}

func (q *queue) append(p []byte) {
	tail := q.head + q.used
	if tail >= len(q.ring) {
		tail -= len(q.ring)
	}
	n := copy(q.ring[tail:], p)
	copy(q.ring, p[n:])
	q.used += len(p)
}

// peek returns the longest run of bytes that lies in one piece.
func (q *queue) peek() []byte {
	return q.ring[q.head:min(q.head+q.used, len(q.ring))]
}

func (q *queue) discard(n int) {
	q.used -= n
	q.head += n
	if q.head == len(q.ring) || q.used == 0 {
		q.head = 0
	}
}
