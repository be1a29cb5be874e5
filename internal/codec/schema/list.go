package schema

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// moreRoom is kept free for what tells how many entries found no room.
const moreRoom = len(`,{"…":"‹1234567+ more›"}`)

// list writes as many entries as fit, and how many there are more.
func (w *writer) list(f *field, c *cursor, e extent) bool {
	if !w.open('[') {
		return false
	}
	start, reserved := len(w.buf), min(moreRoom, w.room()/4)
	w.limit -= reserved
	written := 0
	for c.pos = e.first; !w.full && c.occurrence(f, e); {
		if c.wire == f.wire {
			written += w.entry(f, c)
		} else {
			written += w.packed(f, c.bytes())
		}
	}
	w.limit += reserved
	if w.full || e.more || written < int(e.count) {
		w.more(f, c, e, written)
	}
	w.close(']')
	return len(w.buf)-1 > start
}

// more tells how many entries there are besides those written, as the last one:
// of a list of messages as one that has none of their fields.
func (w *writer) more(f *field, c *cursor, e extent, written int) {
	left := f.total(c, e) - written
	if left <= 0 && !e.more {
		return
	}
	w.trimmed = true
	var store [64]byte
	b := append(store[:0], `"‹`...)
	if left > 0 {
		b = append(append(strconv.AppendInt(b, int64(left), 10), plus(e.more)...), ' ')
	}
	b = append(b, `more›"`...)
	if f.kind == protoreflect.MessageKind {
		b = append(append([]byte(`{"…":`), b...), '}')
	}
	if len(b)+1 <= w.room() {
		w.separate()
		w.buf = append(w.buf, b...)
	}
}

// total is how many entries a list has, as far as they were seen.
func (f *field) total(c *cursor, e extent) int {
	if f.wire == protowire.BytesType {
		return int(e.count)
	}
	n := int(e.past) // of numbers, an occurrence may hold many
	for c.pos = e.first; c.occurrence(f, e); {
		n += f.entries(c)
	}
	return n
}

// packed writes the entries of a packed run of numbers.
func (w *writer) packed(f *field, run []byte) (written int) {
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
			return written
		}
		written += w.entry(f, &c)
		run = run[n:]
	}
	return written
}

// entry writes one entry of a list. One that does not fit is taken back, unless
// it is the first: a part of it is better than nothing.
func (w *writer) entry(f *field, c *cursor) (written int) {
	mark := len(w.buf)
	first := w.buf[mark-1] == '['
	w.separate()
	if ok := w.value(f, c); !ok || w.full && !first {
		w.buf = w.buf[:mark]
		return 0
	}
	return 1
}
