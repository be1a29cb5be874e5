package schema

import (
	"bytes"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// MinBudget is the smallest budget that Render can keep: "{}".
const MinBudget = 2

// One string takes at most a quarter of the budget, so that a long one does not
// hide what comes behind it; but never less than minString where there is room.
const minString = 32

// maxDepth bounds how deep messages are followed into each other.
const maxDepth = 64

// Prefix is a message as far as it is at hand.
type Prefix struct {
	Bytes []byte
	Whole bool  // Bytes is all of it; else they may end anywhere
	Past  *Past // what came behind, where somebody followed it
}

// A Renderer shows messages under a policy. It is for one goroutine, and uses
// its memory again.
type Renderer struct {
	Policy
	w writer
}

// Render gives a message as a JSON object of at most budget bytes.
//
// Fields come in the table's order under their names in the .proto, present if
// they are on the wire. What may not be shown is told as "‹12 entries›",
// "‹2 keys›", "‹string, 8 bytes›"; a field that the message's .proto doesn't
// have, under its number. 64-bit numbers are numbers, enums their names, bytes
// text if they are UTF-8 and else base64. Of a field that repeats though it
// should not, the last occurrence counts, and messages merge, as for any
// protobuf parser (both members of a oneof show if both were sent). Of bytes
// that are no protobuf shows what came before them.
//
// The output is cut at values: of a list, the entries that fit, and how many
// there are more (of the first, failing that, a part); a value that is too long,
// or that the prefix cut, is told by its length. trimmed says that less shows
// than may be, for size.
//
// Below MinBudget, and under None, out is nil. Time is linear in the prefix's
// length with a factor bounded by the tables; memory is bounded by budget, and
// for a message sent in pieces by the prefix's length.
func (r *Renderer) Render(m *Message, from Prefix, budget int) (out []byte, trimmed bool) {
	if r.Payload == None {
		return nil, false
	}
	if budget < MinBudget {
		return nil, true
	}
	r.w = writer{
		policy:    r.Policy,
		buf:       r.w.buf[:0],
		limit:     budget,
		maxString: max(budget/4, minString),
		trimmed:   !from.Whole && from.Past == nil,
		extents:   r.w.extents[:0],
	}
	r.w.message(m, from)
	return bytes.Clone(r.w.buf), r.w.trimmed
}

// writer writes JSON into a budget. Every method that writes a value says
// whether it did; where it did not, its caller takes back what led up to it.
type writer struct {
	policy    Policy
	buf       []byte
	limit     int // the budget less the closing brackets owed; len(buf) never ends up above
	maxString int
	trimmed   bool
	full      bool // something did not fit: nothing is written any more
	depth     int
	extents   []extent // of the messages that are being written, the innermost's last
}

// overflow notes that something did not fit.
func (w *writer) overflow() bool {
	w.full, w.trimmed = true, true
	return false
}

func (w *writer) open(bracket byte) bool {
	if len(w.buf)+2 > w.limit || w.depth == maxDepth {
		return w.overflow()
	}
	w.buf = append(w.buf, bracket)
	w.limit--
	w.depth++
	return true
}

func (w *writer) close(bracket byte) {
	w.limit++
	w.depth--
	w.buf = append(w.buf, bracket)
}

// room is how many bytes may still be written.
func (w *writer) room() int { return max(0, w.limit-len(w.buf)) }

// separate writes the comma before a value that is not its container's first.
func (w *writer) separate() {
	if last := w.buf[len(w.buf)-1]; last != '{' && last != '[' {
		w.buf = append(w.buf, ',')
	}
}

// extent is where the occurrences of a field lie: from the tag of the first to
// that of the last. Other fields may lie between them.
type extent struct {
	first, last int
	size        uint64 // the sum of their lengths, as sent
	bits        uint64 // behind the prefix, the last one's, of a varint
	count, past int32  // how many there are, and of these behind the prefix
	more        bool   // there may be more of them than was seen
}

// message writes one message. Its bytes are read once to see where each field
// lies, and once more, there, for each field that is shown.
func (w *writer) message(m *Message, from Prefix) bool {
	if !w.open('{') {
		return false
	}
	start, base := len(w.buf), len(w.extents)
	w.extents = slices.Grow(w.extents, len(m.fields))[:base+len(m.fields)]
	clear(w.extents[base:])
	c := cursor{b: from.Bytes, whole: from.Whole}
	strange := m.find(&c, w.extents[base:])
	w.trimmed = w.trimmed || c.broken && (from.Whole || from.Past == nil)
	if from.Past != nil {
		strange = from.Past.add(m, w.extents[base:], strange)
	}
	more := !from.Whole && !from.Past.counted()
	for i := range m.fields {
		if w.extents[base+i].count == 0 || w.full {
			continue
		}
		e := w.extents[base+i]
		e.more = e.more || more
		w.field(&m.fields[i], cursor{b: from.Bytes, whole: from.Whole}, e)
	}
	if strange != nil {
		w.strangers(strange, more)
	}
	w.extents = w.extents[:base]
	w.close('}')
	return !w.full || len(w.buf)-1 > start
}

// find reads a message to its end, and notes what is where.
func (m *Message) find(c *cursor, found []extent) (strange *strangers) {
	for c.next() {
		i := m.at(c.number)
		if i < 0 || !m.fields[i].accepts(c.wire) {
			strange = strange.add(c.number, c.wire, c.size, 1)
			continue
		}
		e := &found[i]
		if e.count == 0 {
			e.first = c.start
		}
		e.last = c.start
		e.count++
		e.size += c.size
	}
	return strange
}

// shows: the field's value may be written.
func (w *writer) shows(f *field) bool {
	switch f.verdict {
	case shown:
		return true
	case text:
		return !w.policy.NoMessages
	case byName:
		return w.policy.Payload == Full && f.kind != protoreflect.GroupKind
	}
	return false
}

// field writes one field of a message, with its key.
func (w *writer) field(f *field, c cursor, e extent) {
	mark := len(w.buf)
	w.separate()
	w.buf = append(w.buf, f.label...)
	c.pos = e.last
	var ok bool
	switch {
	case !w.shows(f):
		ok = w.hidden(f, &c, e)
	case e.past > 0 && f.wire == protowire.VarintType && !f.list && !f.isMap:
		ok = w.number(f, e.bits)
	case e.past == e.count: // nothing of it is at hand
		ok = w.hidden(f, &c, e)
		w.trimmed = true
	case f.isMap:
		ok = w.mapping(f, &c, e)
	case f.list:
		ok = w.list(f, &c, e)
	case f.kind == protoreflect.MessageKind:
		ok = w.message(f.message, w.merged(f, &c, e))
	default:
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
func (w *writer) merged(f *field, c *cursor, e extent) Prefix {
	if e.count == 1 {
		c.next()
		return Prefix{Bytes: c.bytes(), Whole: !c.cut}
	}
	var b []byte
	for c.pos = e.first; c.occurrence(f, e); {
		piece := c.bytes()
		if c.start < e.last {
			piece = piece[:wellFormed(piece)]
			w.trimmed = w.trimmed || len(piece) < len(c.bytes())
		}
		b = append(b, piece...)
	}
	return Prefix{Bytes: b, Whole: !c.cut}
}

// value writes the value that c has read, which is not a list's or a map's.
func (w *writer) value(f *field, c *cursor) bool {
	switch f.kind {
	case protoreflect.MessageKind:
		return w.message(f.message, Prefix{Bytes: c.bytes(), Whole: !c.cut})
	case protoreflect.StringKind, protoreflect.BytesKind:
		return w.text(f, c)
	}
	return w.number(f, c.bits)
}

func (w *writer) number(f *field, bits uint64) bool {
	if w.buf = f.appendNumber(w.buf, bits); len(w.buf) > w.limit {
		return w.overflow()
	}
	return true
}
