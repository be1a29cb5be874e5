package schema

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// passing reads the outermost fields of a message as its bytes pass, in any
// chunking. It keeps none of them.
type passing struct {
	skip   uint64 // bytes left of the value that passes
	head   [2 * binary.MaxVarintLen64]byte
	have   int  // bytes of head: a tag, and a number or length, not yet complete
	broken bool // these bytes are no protobuf, or not one that is followed
}

// passed is a field that passes, or several of a number.
type passed struct {
	number protowire.Number
	wire   protowire.Type
	count  int32
	size   uint64
	bits   uint64 // of a varint, the last one's
}

// passer is told what passes.
type passer interface {
	// field is told a field's beginning; false ends it all.
	field(passed) bool
	// value is told bytes of a field's value that is no varint, the last of which
	// end it.
	value(b []byte, last bool)
}

// write takes the next bytes.
func (p *passing) write(b []byte, to passer) {
	for len(b) > 0 && !p.broken {
		if p.skip > 0 {
			n := min(uint64(len(b)), p.skip)
			p.skip -= n
			to.value(b[:n], p.skip == 0)
			b = b[n:]
			continue
		}
		n := copy(p.head[p.have:], b)
		used, ok := p.begin(p.head[:p.have+n], to)
		switch {
		case ok:
			b = b[used-p.have:]
			p.have = 0
		case p.have+n == len(p.head):
			p.broken = true
		default: // the rest is still to come
			p.have += n
			b = b[n:]
		}
	}
}

// begin reads a field's tag, and its number or length, if that is all there.
func (p *passing) begin(b []byte, to passer) (used int, ok bool) {
	tag, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, false
	}
	number, wire := protowire.DecodeTag(tag)
	f := passed{number: number, wire: wire, count: 1}
	used = n
	var skip uint64
	switch wire {
	case protowire.Fixed32Type:
		skip = 4
	case protowire.Fixed64Type:
		skip = 8
	case protowire.VarintType, protowire.BytesType:
		v, n := binary.Uvarint(b[used:])
		if n <= 0 {
			return 0, false
		}
		used += n
		if f.bits = v; wire == protowire.BytesType {
			f.bits, f.size, skip = 0, v, v
		}
	default: // groups: where they end can't be told from their first bytes
		number = 0
	}
	if p.skip = skip; number < protowire.MinValidNumber || !to.field(f) {
		p.broken = true
	}
	return used, true
}
