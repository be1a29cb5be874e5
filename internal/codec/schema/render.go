package schema

import (
	"encoding/base64"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// MinBudget is the smallest budget that Render can keep: "{}".
const MinBudget = 2

// One string takes at most a quarter of the budget, so that a long one does not
// hide what comes behind it; but never less than minString where there is room.
const minString = 32

// Render gives the listed fields of a message of type d as a JSON object of at
// most budget bytes. wire is the message, or (whole is false) a prefix of it
// that may end anywhere.
//
// Fields come in the table's order under their names in the .proto, present if
// they are on the wire. 64-bit numbers are numbers, enums their names, bytes
// base64. Of a field that repeats though it should not, the last occurrence
// counts, and messages merge, as for any protobuf parser (both members of a
// oneof show if both were sent). Of bytes that are no protobuf shows what came
// before them.
//
// The output is cut at values: of a list, the entries that fit (of the first,
// failing that, a part); a string that is too long, or that the prefix cut,
// ends in "…". trimmed says that less shows than was sent, for size: something
// listed was left out, or the prefix or malformed bytes may have hidden it.
//
// Nothing shows of a message that no table names: {}. Below MinBudget out is
// nil. Time is linear in len(wire) with a factor bounded by the tables; memory
// is bounded by budget, and for a message sent in pieces by len(wire).
func Render(d protoreflect.MessageDescriptor, wire []byte, whole bool, budget int) (out []byte, trimmed bool) {
	if budget < MinBudget {
		return nil, true
	}
	return known().messages[d].render(wire, whole, budget)
}

func (m *message) render(wire []byte, whole bool, budget int) (out []byte, trimmed bool) {
	w := writer{
		buf:       make([]byte, 0, min(budget, 2*len(wire)+64)),
		limit:     budget,
		maxString: max(budget/4, minString),
		trimmed:   !whole,
	}
	w.message(m, wire, whole)
	return w.buf, w.trimmed
}

// writer writes JSON into a budget. Every method that writes a value says
// whether it did; where it did not, its caller takes back what led up to it.
type writer struct {
	buf       []byte
	limit     int // the budget less the closing brackets owed; len(buf) never ends up above
	maxString int
	trimmed   bool
	full      bool // something did not fit: nothing is written any more
}

// overflow notes that something did not fit.
func (w *writer) overflow() bool {
	w.full, w.trimmed = true, true
	return false
}

func (w *writer) open(bracket byte) bool {
	if len(w.buf)+2 > w.limit {
		return w.overflow()
	}
	w.buf = append(w.buf, bracket)
	w.limit--
	return true
}

func (w *writer) close(bracket byte) {
	w.limit++
	w.buf = append(w.buf, bracket)
}

// separate writes the comma before a value that is not its container's first.
func (w *writer) separate() {
	if last := w.buf[len(w.buf)-1]; last != '{' && last != '[' {
		w.buf = append(w.buf, ',')
	}
}

// extent is where the occurrences of a field lie: from the tag of the first to
// that of the last. Other fields may lie between them.
type extent struct{ first, last, count int }

// message writes one message. Its bytes are read once to see where each listed
// field lies, and once more, there, for each field that is shown.
func (w *writer) message(m *message, b []byte, whole bool) bool {
	if !w.open('{') {
		return false
	}
	start := len(w.buf)
	if m != nil {
		var found [maxFields]extent
		c := cursor{b: b, whole: whole}
		m.find(&c, &found)
		w.trimmed = w.trimmed || c.broken
		for i := range m.fields {
			if found[i].count > 0 && !w.full {
				w.field(&m.fields[i], cursor{b: b, whole: whole}, found[i])
			}
		}
	}
	w.close('}')
	return !w.full || len(w.buf)-1 > start
}

func (m *message) find(c *cursor, found *[maxFields]extent) {
	for c.next() {
		i := m.at(c.number)
		if i < 0 || !m.fields[i].accepts(c.wire) {
			continue
		}
		e := &found[i]
		if e.count == 0 {
			e.first = c.start
		}
		e.last = c.start
		e.count++
	}
}

// field writes one field of a message, with its key.
func (w *writer) field(f *field, c cursor, e extent) {
	mark := len(w.buf)
	w.separate()
	w.buf = append(w.buf, f.label...)
	var ok bool
	switch {
	case f.isMap:
		ok = w.mapping(f, &c, e)
	case f.list:
		ok = w.list(f, &c, e)
	case f.kind == protoreflect.MessageKind:
		b, whole := w.merged(f, &c, e)
		ok = w.message(f.message, b, whole)
	default:
		c.pos = e.last
		c.next()
		ok = w.value(f, &c)
	}
	if !ok {
		w.buf = w.buf[:mark]
	}
}

// occurrence moves c to the next occurrence of f within e.
func (c *cursor) occurrence(f *field, e extent) bool {
	for c.pos <= e.last && c.next() {
		if c.number == f.number && f.accepts(c.wire) {
			return true
		}
	}
	return false
}

// merged gives the bytes of a message field. One that occurs several times is
// the concatenation of its pieces, which is how protobuf defines merging; of
// each piece only what is well-formed, lest its end is read with the next one's
// beginning.
func (w *writer) merged(f *field, c *cursor, e extent) (b []byte, whole bool) {
	if c.pos = e.last; e.count == 1 {
		c.next()
		return c.bytes, !c.cut
	}
	for c.pos = e.first; c.occurrence(f, e); {
		piece := c.bytes
		if c.start < e.last {
			piece = piece[:wellFormed(piece)]
			w.trimmed = w.trimmed || len(piece) < len(c.bytes)
		}
		b = append(b, piece...)
	}
	return b, !c.cut
}

// value writes the value that c has read, which is not a list's or a map's.
func (w *writer) value(f *field, c *cursor) bool {
	switch f.kind {
	case protoreflect.MessageKind:
		return w.message(f.message, c.bytes, !c.cut)
	case protoreflect.StringKind:
		return w.text(c.bytes, c.cut)
	case protoreflect.BytesKind:
		return w.base64(c.bytes, c.cut)
	}
	return w.number(f, c.bits)
}

func (w *writer) number(f *field, bits uint64) bool {
	if w.buf = f.appendNumber(w.buf, bits); len(w.buf) > w.limit {
		return w.overflow()
	}
	return true
}

// text writes a string, as far as it fits.
func (w *writer) text(s []byte, cut bool) bool {
	room := max(0, w.limit-len(w.buf))
	var complete, ok bool
	w.buf, complete, ok = appendString(w.buf, s, min(room, w.maxString), cut)
	w.trimmed = w.trimmed || !complete
	if !ok || !complete && !cut && room < w.maxString {
		w.full = true
	}
	return ok
}

// base64 writes bytes, as far as they fit.
func (w *writer) base64(b []byte, cut bool) bool {
	room := max(0, w.limit-len(w.buf))
	fits := (min(room, w.maxString) - len(ellipsis) - 2) / 4 * 3
	if fits <= 0 {
		return w.overflow()
	}
	cut = cut || len(b) > fits
	w.trimmed = w.trimmed || cut
	w.buf = append(w.buf, '"')
	w.buf = base64.StdEncoding.AppendEncode(w.buf, b[:min(fits, len(b))])
	if cut {
		w.buf = append(w.buf, ellipsis...)
	}
	w.buf = append(w.buf, '"')
	return true
}

// list writes as many entries as fit.
func (w *writer) list(f *field, c *cursor, e extent) bool {
	if !w.open('[') {
		return false
	}
	start := len(w.buf)
	for c.pos = e.first; !w.full && c.occurrence(f, e); {
		if c.wire == f.wire {
			w.entry(f, c)
		} else {
			w.packed(f, c.bytes)
		}
	}
	w.close(']')
	return len(w.buf)-1 > start
}

// packed writes the entries of a packed run of numbers.
func (w *writer) packed(f *field, run []byte) {
	for len(run) > 0 && !w.full {
		var c cursor
		var n int
		switch f.wire {
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(run)
			c.bits = uint64(v)
		case protowire.Fixed64Type:
			c.bits, n = protowire.ConsumeFixed64(run)
		default:
			c.bits, n = protowire.ConsumeVarint(run)
		}
		if n < 0 {
			w.trimmed = true
			return
		}
		w.entry(f, &c)
		run = run[n:]
	}
}

// entry writes one entry of a list. One that does not fit is taken back, unless
// it is the first: a part of it is better than nothing.
func (w *writer) entry(f *field, c *cursor) {
	mark := len(w.buf)
	first := w.buf[mark-1] == '['
	w.separate()
	if ok := w.value(f, c); !ok || w.full && !first {
		w.buf = w.buf[:mark]
	}
}
