package schema

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// What may not be shown, or finds no room, is told by its type and length, in
// quotation marks that no API uses.
const (
	openMark  = "‹"
	closeMark = "›"
)

// hidden tells a field without its value.
func (w *writer) hidden(f *field, c *cursor, e extent) bool {
	switch {
	case f.isMap:
		return w.count(e, "key", "keys")
	case f.list:
		e.count = int32(f.total(c, e))
		return w.count(e, "entry", "entries")
	case f.kind == protoreflect.BytesKind:
		return w.length("", e.size)
	case f.wire == protowire.BytesType:
		return w.length(f.typ, e.size)
	}
	return w.mark(f.typ)
}

// count writes "‹12 entries›", or "‹12+ entries›" where there may be more.
func (w *writer) count(e extent, one, many string) bool {
	var store [48]byte
	b := strconv.AppendInt(store[:0], int64(e.count), 10)
	if e.more {
		b, one = append(b, '+'), many
	}
	b = append(b, ' ')
	if e.count == 1 {
		many = one
	}
	return w.markBytes(append(b, many...))
}

// length writes "‹string, 12 bytes›", or "‹12 bytes›".
func (w *writer) length(typ string, size uint64) bool {
	var store [96]byte
	b := store[:0]
	if typ != "" {
		b = append(append(b, typ...), ", "...)
	}
	return w.markBytes(appendLength(b, size))
}

func appendLength(b []byte, size uint64) []byte {
	b = strconv.AppendUint(b, size, 10)
	if size == 1 {
		return append(b, " byte"...)
	}
	return append(b, " bytes"...)
}

// lengthMark is what stands at the end of a text that was cut.
func lengthMark(size uint64) string {
	return " " + openMark + string(appendLength(nil, size)) + closeMark
}

func (w *writer) mark(s string) bool { return w.markBytes([]byte(s)) }

// markBytes writes a mark, which has nothing in it to escape.
func (w *writer) markBytes(b []byte) bool {
	if len(b)+len(`"‹›"`) > w.room() {
		return w.overflow()
	}
	w.buf = append(append(w.buf, '"'), openMark...)
	w.buf = append(append(w.buf, b...), closeMark...)
	w.buf = append(w.buf, '"')
	return true
}

// strangers are fields that the message's plan does not have, by number; of an
// unknown message all are.
type strangers struct {
	all  [maxStrangers]stranger
	n    int
	more bool // there were others
}

const maxStrangers = 16

type stranger struct {
	number protowire.Number
	wire   protowire.Type
	extent
}

// add notes one, in s or in new ones: most messages have none.
func (s *strangers) add(n protowire.Number, wire protowire.Type, size uint64, count int32) *strangers {
	if s == nil {
		s = &strangers{}
	}
	for i := range s.all[:s.n] {
		if x := &s.all[i]; x.number == n && x.wire == wire {
			x.count += count
			x.size += size
			return s
		}
	}
	if s.n == maxStrangers {
		s.more = true
		return s
	}
	s.all[s.n] = stranger{n, wire, extent{count: count, size: size}}
	s.n++
	return s
}

var wireNames = map[protowire.Type]string{
	protowire.VarintType: "varint", protowire.Fixed32Type: "fixed32", protowire.Fixed64Type: "fixed64",
	protowire.StartGroupType: "group",
}

// strangers writes fields that nobody knows: "7":"‹12 bytes›".
func (w *writer) strangers(s *strangers, more bool) {
	for i := range s.all[:s.n] {
		if w.full {
			return
		}
		x := &s.all[i]
		x.more = more
		mark := len(w.buf)
		w.separate()
		w.buf = append(strconv.AppendInt(append(w.buf, '"'), int64(x.number), 10), `":`...)
		if !w.stranger(x) {
			w.buf = w.buf[:mark]
		}
	}
	w.trimmed = w.trimmed || s.more
}

func (w *writer) stranger(x *stranger) bool {
	name := wireNames[x.wire]
	switch {
	case x.wire == protowire.BytesType && x.count == 1:
		return w.length("", x.size)
	case x.wire == protowire.BytesType:
		return w.length(strconv.Itoa(int(x.count))+plus(x.more)+" entries", x.size)
	case x.count == 1:
		return w.mark(name)
	}
	return w.mark(strconv.Itoa(int(x.count)) + plus(x.more) + " × " + name)
}

func plus(more bool) string {
	if more {
		return "+"
	}
	return ""
}
