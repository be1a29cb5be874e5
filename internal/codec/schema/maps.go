package schema

import "bytes"

// pair is one entry of a map: of several with the same key, the last.
type pair struct {
	key, value []byte
	cut, sent  bool
}

// mapping writes the entries of a map whose keys show, in the table's order.
// Nothing is written of a map that has none of them: that it has others says
// too little to be worth the room.
func (w *writer) mapping(f *field, c *cursor, e extent) bool {
	var store [maxKeys]pair
	pairs := w.pairs(f, c, e, store[:0])
	if !w.open('{') {
		return false
	}
	start := len(w.buf)
	for _, p := range pairs {
		if !p.sent || w.full {
			continue
		}
		mark := len(w.buf)
		w.separate()
		ok := w.text(p.key, false)
		w.buf = append(w.buf, ':')
		if !ok || !w.text(p.value, p.cut) {
			w.buf = w.buf[:mark]
		}
	}
	w.close('}')
	return len(w.buf)-1 > start
}

// pairs collects what shows of a map: one pair for each key listed, or where
// any key shows those of the first maxKeys keys.
func (w *writer) pairs(f *field, c *cursor, e extent, pairs []pair) []pair {
	for _, key := range f.keys {
		pairs = append(pairs, pair{key: key})
	}
	for c.pos = e.first; c.occurrence(f, e); {
		p, ok := w.pair(c.bytes, !c.cut)
		if !ok {
			continue
		}
		i := 0
		for i < len(pairs) && !bytes.Equal(pairs[i].key, p.key) {
			i++
		}
		switch {
		case i < len(pairs):
			pairs[i] = p
		case f.keys != nil: // a key that is not listed
		case i == maxKeys:
			w.trimmed = true
		default:
			pairs = append(pairs, p)
		}
	}
	return pairs
}

// pair reads one entry of a map. There is none where its key was cut, or its
// value not reached; an entry that was sent without a value has the empty one.
func (w *writer) pair(b []byte, whole bool) (p pair, ok bool) {
	p.sent = true
	hasValue := whole
	c := cursor{b: b, whole: whole}
	for c.next() {
		switch {
		case !isText(&c):
		case c.number == 1 && c.cut:
			return pair{}, false
		case c.number == 1:
			p.key = c.bytes
		case c.number == 2:
			p.value, p.cut, hasValue = c.bytes, c.cut, true
		}
	}
	if c.broken && whole {
		w.trimmed = true
		return pair{}, false
	}
	return p, hasValue
}
