package schema

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// Past follows a message behind the prefix that is kept of it: how often each
// field of its outermost level comes there. So a list's count is known however
// long it is, and the exit code of a command that printed megabytes. It costs by
// the number of fields, not by their length, and keeps none of their bytes.
type Past struct {
	skip   uint64 // bytes left of the value that passes
	head   [2 * binary.MaxVarintLen64]byte
	have   int // bytes of head: a tag, and a number or length, not yet complete
	seen   [maxPast]passed
	n      int
	broken bool // these bytes are no protobuf, or not one that is followed
}

// maxPast is how many fields are told apart. Those that come behind a prefix of
// 64 KiB are one long list, or a few.
const maxPast = 12

type passed struct {
	number protowire.Number
	wire   protowire.Type
	count  int32
	size   uint64
	bits   uint64 // of a varint, the last one's
}

// Follow begins behind a prefix.
func Follow(prefix []byte) *Past {
	p := &Past{}
	c := cursor{b: prefix}
	for c.next() {
	}
	if c.pos > 0 && c.cut && !c.broken {
		p.skip = c.size - uint64(len(c.bytes()))
	}
	p.Write(prefix[c.pos:]) // what there is of a field that is not all there
	return p
}

// Write takes the next bytes, in any chunking.
func (p *Past) Write(b []byte) {
	for len(b) > 0 && !p.broken {
		if p.skip > 0 {
			n := min(uint64(len(b)), p.skip)
			b = b[n:]
			p.skip -= n
			continue
		}
		n := copy(p.head[p.have:], b)
		used, ok := p.field(p.head[:p.have+n])
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

// field reads a field's tag, and its number or length, if that is all there.
func (p *Past) field(b []byte) (used int, ok bool) {
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
	if p.skip = skip; number < protowire.MinValidNumber || !p.note(f) {
		p.broken = true
	}
	return used, true
}

func (p *Past) note(f passed) bool {
	for i := range p.seen[:p.n] {
		if x := &p.seen[i]; x.number == f.number && x.wire == f.wire {
			x.count++
			x.size += f.size
			x.bits = f.bits
			return true
		}
	}
	if p.n == maxPast {
		return false
	}
	p.seen[p.n] = f
	p.n++
	return true
}

// counted: all that came behind the prefix is known.
func (p *Past) counted() bool { return p != nil && !p.broken && p.skip == 0 && p.have == 0 }

// add adds what was seen to what the prefix holds.
func (p *Past) add(m *Message, found []extent, strange *strangers) *strangers {
	for _, x := range p.seen[:p.n] {
		i := m.at(x.number)
		if i < 0 || !m.fields[i].accepts(x.wire) {
			strange = strange.add(x.number, x.wire, x.size, x.count)
			continue
		}
		e := &found[i]
		e.count += x.count
		e.past += x.count
		e.size += x.size
		e.bits = x.bits
		e.more = e.more || x.wire != m.fields[i].wire // of a packed run: how many it holds was not seen
	}
	return strange
}
