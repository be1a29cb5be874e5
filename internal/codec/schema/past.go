package schema

// Past follows a message behind the prefix that is kept of it: how often each
// field of its outermost level comes there. So a list's count is known however
// long it is, and the exit code of a command that printed megabytes. It costs by
// the number of fields, not by their length, and keeps none of their bytes.
type Past struct {
	passing
	seen [maxPast]passed
	n    int
}

// maxPast is how many fields are told apart. Those that come behind a prefix of
// 64 KiB are one long list, or a few.
const maxPast = 12

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
func (p *Past) Write(b []byte) { p.write(b, p) }

func (p *Past) value([]byte, bool) {}

// field notes one that passes.
func (p *Past) field(f passed) bool {
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
