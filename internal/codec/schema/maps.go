package schema

import (
	"bytes"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// pair is one entry of a map: of several with the same key, the last.
type pair struct {
	listed string // the key, where a table lists it; else ""
	key    scalar // as sent
	value  scalar
	sent   bool
}

// scalar is a field's value as a cursor has read it.
type scalar struct {
	bytes []byte
	bits  uint64
	size  uint64
	cut   bool
}

func (c *cursor) scalar() scalar { return scalar{c.bytes(), c.bits, c.size, c.cut} }

func (s *scalar) cursor() cursor {
	return cursor{b: s.bytes, to: len(s.bytes), bits: s.bits, size: s.size, cut: s.cut}
}

// others is the key under which a map tells how many more it has.
const others = `"…":`

// mapping writes the entries of a map whose keys show, in the table's order,
// and how many others there are.
func (w *writer) mapping(f *field, c *cursor, e extent) bool {
	var store [maxKeys]pair
	pairs, left := w.pairs(f, c, e, store[:0])
	if !w.open('{') {
		return false
	}
	start := len(w.buf)
	for i := range pairs {
		p := &pairs[i]
		if !p.sent || w.full {
			continue
		}
		mark := len(w.buf)
		w.separate()
		if !w.pair(f, p) {
			w.buf = w.buf[:mark]
		}
	}
	if e.more = e.more || left == 0 && e.past > 0; (left > 0 || e.more) && !w.full {
		mark := len(w.buf)
		w.separate()
		w.buf = append(w.buf, others...)
		if !w.mark(strconv.Itoa(left) + plus(e.more) + " more") {
			w.buf = w.buf[:mark]
		}
	}
	w.close('}')
	return len(w.buf)-1 > start
}

// pair writes one entry: "key":value.
func (w *writer) pair(f *field, p *pair) bool {
	ok := false
	switch {
	case f.key.isText():
		w.buf, ok = w.mapKey(p.key.bytes)
	default:
		w.buf = append(w.buf, '"')
		ok = w.number(f.key, p.key.bits)
		w.buf = append(w.buf, '"')
	}
	if w.buf = append(w.buf, ':'); !ok {
		return w.overflow()
	}
	c := p.value.cursor()
	if w.withheld(p) {
		return w.hidden(f.value, &c, extent{count: 1, size: c.size})
	}
	return w.value(f.value, &c)
}

// mapKey appends a key of a map, whole; what is odd for a key may be a credential.
func (w *writer) mapKey(key []byte) ([]byte, bool) {
	if !isPlain(key) {
		key = []byte(Scrub(string(key)))
	}
	out, complete, ok := appendString(w.buf, key, min(w.room(), w.maxString), false, uint64(len(key)))
	return out, complete && ok
}

// tokenKeys are the keys of any map whose values are not shown whatever is asked
// for: service account tokens, which leaked in CVE-2023-2878 and CVE-2024-3744.
var tokenKeys = []byte("serviceAccount.tokens")

// withheld: this key's value does not show, though others' of its map do.
func (w *writer) withheld(p *pair) bool {
	if bytes.Contains(p.key.bytes, tokenKeys) {
		return true
	}
	return p.listed == "" && w.policy.Payload != Full && credentialKey(p.key.bytes)
}

// pairs collects what shows of a map: one pair for each key listed, or where
// any key shows those of the first maxKeys keys; and counts the other entries.
func (w *writer) pairs(f *field, c *cursor, e extent, pairs []pair) (_ []pair, left int) {
	anyKey := f.anyKey || w.policy.Payload == Full
	if !anyKey {
		for _, key := range f.keys {
			pairs = append(pairs, pair{listed: key})
		}
	}
	for c.pos = e.first; c.occurrence(f, e); {
		p, ok := f.pair(c)
		if !ok {
			left++
			continue
		}
		i := 0
		for i < len(pairs) && !pairs[i].is(f, &p) {
			i++
		}
		switch {
		case i < len(pairs):
			p.listed = pairs[i].listed
			pairs[i] = p
		case !anyKey:
			left++
		case i == maxKeys:
			left++
			w.trimmed = true
		default:
			pairs = append(pairs, p)
		}
	}
	return pairs, left + int(e.past)
}

// is: the two have the same key.
func (p *pair) is(f *field, q *pair) bool {
	switch {
	case !f.key.isText():
		return p.key.bits == q.key.bits
	case p.listed != "":
		return p.listed == string(q.key.bytes)
	}
	return bytes.Equal(p.key.bytes, q.key.bytes)
}

// pair reads one entry of a map. There is none where its key was cut, or its
// value not reached; an entry that was sent without a value has the zero one.
func (f *field) pair(entry *cursor) (p pair, ok bool) {
	p.sent = true
	hasValue := !entry.cut
	c := cursor{b: entry.bytes(), whole: !entry.cut}
	for c.next() {
		switch {
		case c.number == 1 && c.wire == f.key.wire:
			if c.cut {
				return pair{}, false
			}
			p.key = c.scalar()
		case c.number == 2 && c.wire == f.value.wire:
			p.value, hasValue = c.scalar(), true
		}
	}
	return p, hasValue && !(c.broken && !entry.cut)
}

func (f *field) isText() bool {
	return f.kind == protoreflect.StringKind || f.kind == protoreflect.BytesKind
}
