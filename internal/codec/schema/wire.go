package schema

import "google.golang.org/protobuf/encoding/protowire"

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
	bytes  []byte // of a length-delimited field
	cut    bool   // bytes is only the beginning of the value

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
	tag, n := uint64(c.b[c.pos]), 1
	if tag >= 0x80 {
		tag, n = protowire.ConsumeVarint(c.b[c.pos:])
	}
	number, wire := protowire.DecodeTag(tag)
	if n < 0 || number < protowire.MinValidNumber {
		return c.stop()
	}
	rest := c.b[c.pos+n:]
	c.bits, c.bytes, c.cut = 0, nil, false
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
		used = c.delimited(rest)
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

// delimited reads a length and what follows it, and says how much that is.
func (c *cursor) delimited(rest []byte) int {
	var length uint64
	n := 1
	if len(rest) > 0 && rest[0] < 0x80 { // most are
		length = uint64(rest[0])
	} else if length, n = protowire.ConsumeVarint(rest); n < 0 {
		return n
	}
	c.bytes = rest[n:]
	switch {
	case length <= uint64(len(c.bytes)):
		c.bytes = c.bytes[:length]
	case c.whole:
		return -1
	default:
		c.cut = true
	}
	return n + len(c.bytes)
}

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
