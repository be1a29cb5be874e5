package schema

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// cursor reads the fields of one level of a message, one after another, from
// bytes that may be anything.
type cursor struct {
	b     []byte
	pos   int
	whole bool // b is the message to its end; otherwise it may end anywhere

	// The field that next read: where its tag begins, and its value.
	start  int
	number protowire.Number
	wire   protowire.Type
	bits   uint64 // of a number
	// Where the value of a length-delimited field is: by numbers, since a slice
	// that is stored through a pointer costs a write barrier while memory is collected.
	from, to int
	size     uint64 // of the value, as it was sent
	cut      bool   // what is there is only the value's beginning

	// broken: next stopped before the end of b, at bytes that are no field or
	// at one that is not all there. Nothing behind them can be trusted.
	broken bool
}

// next reads one field. Groups pass as fields without a value. The value of a
// length-delimited field is handed out as far as it goes where a prefix ends in
// it; in a whole message a length that is too long is an error.
func (c *cursor) next() bool {
	if c.pos >= len(c.b) || c.broken {
		return false
	}
	// Most fields have a tag and a length, or a number, of one byte each.
	if rest := c.b[c.pos:]; len(rest) > 1 && rest[0]|rest[1] < 0x80 && rest[0] >= 1<<3 {
		number, wire, v := protowire.Number(rest[0]>>3), protowire.Type(rest[0]&7), int(rest[1])
		switch {
		case wire == protowire.BytesType && v <= len(rest)-2:
			c.start, c.number, c.wire, c.bits, c.from, c.to, c.size, c.cut = c.pos, number, wire, 0, c.pos+2, c.pos+2+v, uint64(v), false
			c.pos += 2 + v
			return true
		case wire == protowire.VarintType:
			c.start, c.number, c.wire, c.bits, c.from, c.to, c.size, c.cut = c.pos, number, wire, uint64(v), 0, 0, 0, false
			c.pos += 2
			return true
		}
	}
	return c.any()
}

// any reads a field of whatever form.
func (c *cursor) any() bool {
	tag, n := protowire.ConsumeVarint(c.b[c.pos:])
	number, wire := protowire.DecodeTag(tag)
	if n < 0 || number < protowire.MinValidNumber {
		return c.stop()
	}
	rest := c.b[c.pos+n:]
	c.bits, c.from, c.to, c.size, c.cut = 0, 0, 0, 0, false
	var used int
	switch wire {
	case protowire.VarintType:
		c.bits, used = protowire.ConsumeVarint(rest)
	case protowire.Fixed32Type:
		var v uint32
		v, used = protowire.ConsumeFixed32(rest)
		c.bits = uint64(v)
	case protowire.Fixed64Type:
		c.bits, used = protowire.ConsumeFixed64(rest)
	case protowire.BytesType:
		used = c.delimited(c.pos + n)
	default:
		used = protowire.ConsumeFieldValue(number, wire, rest)
	}
	if used < 0 {
		return c.stop()
	}
	c.start, c.number, c.wire = c.pos, number, wire
	c.pos += n + used
	return true
}

// delimited reads a length at a place and what follows it, and says how much that is.
func (c *cursor) delimited(at int) int {
	var n int
	if c.size, n = protowire.ConsumeVarint(c.b[at:]); n < 0 {
		return n
	}
	c.from, c.to = at+n, len(c.b)
	switch {
	case c.size <= uint64(c.to-c.from):
		c.to = c.from + int(c.size)
	case c.whole:
		return -1
	default:
		c.cut = true
	}
	return c.to - at
}

// bytes is the value of a length-delimited field, as far as it is there.
func (c *cursor) bytes() []byte { return c.b[c.from:c.to:c.to] }

func (c *cursor) stop() bool {
	c.broken = true
	return false
}

// wellFormed is how much of b is fields that are all there.
func wellFormed(b []byte) int {
	c := cursor{b: b, whole: true}
	for c.next() {
	}
	return c.pos
}

// lengthKinds are the kinds that a length precedes; none of them is ever packed.
var lengthKinds = []protoreflect.Kind{protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind}

func wireType(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	}
	if slices.Contains(lengthKinds, k) {
		return protowire.BytesType
	}
	return protowire.VarintType
}

// accepts: the field, or as a list a packed run of it, is encoded like this.
// What is encoded otherwise is not the field, as protobuf's parsers have it too.
func (f *field) accepts(t protowire.Type) bool {
	return t == f.wire || f.list && t == protowire.BytesType && f.wire != protowire.StartGroupType
}

// entries is how many entries of a list an occurrence of it holds.
func (f *field) entries(c *cursor) (n int) {
	switch {
	case c.wire == f.wire:
		return 1
	case f.wire == protowire.Fixed32Type:
		return len(c.bytes()) / 4
	case f.wire == protowire.Fixed64Type:
		return len(c.bytes()) / 8
	}
	for _, b := range c.bytes() {
		if b < 0x80 { // a varint's last byte
			n++
		}
	}
	return n
}
