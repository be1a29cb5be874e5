package schema

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// listings says for each method, "service/method", which fields of its responses
// tell of objects other than the one that the call is about, and where in such an
// entry its facts are.
type listings map[string]map[protoreflect.Name]sources

// list is one such field.
type list struct {
	number protowire.Number
	facts  []step
	// Where an entry has its id, whether that is a container's, and where it has
	// its state and how often it was made before.
	id             []protowire.Number
	container      bool
	state, attempt []protowire.Number
}

// Listed is one object that a response tells of. It is valid only while it is
// handed over.
type Listed struct {
	list  *list
	bytes []byte // its first maxEntry
}

// maxEntry bounds what is looked at of an entry, in bytes. Of a container or a
// sandbox it has all but the annotations.
const maxEntry = 16 << 10

// Listing reads what the messages of a response list, entry by entry, as their
// bytes pass: however long a list is, it holds one entry of it.
type Listing struct {
	passing
	lists  []list
	each   func(*Listed)
	passes Listed // now; no list: it is none
	buf    []byte
}

// Lists: m is known, and its responses list what is.
func (m *Method) Lists() bool { return m != nil && len(m.lists) > 0 }

// Listing begins to read a response of a method that Lists, and hands out each entry.
func (m *Method) Listing(each func(*Listed)) *Listing {
	return &Listing{lists: m.lists, each: each}
}

// Write takes the next bytes, in any chunking.
func (l *Listing) Write(b []byte) { l.write(b, l) }

// EndMessage says that the next bytes are of another message.
func (l *Listing) EndMessage() { l.passing, l.passes = passing{}, Listed{} }

func (l *Listing) field(f passed) bool {
	l.passes = Listed{}
	if f.wire != protowire.BytesType {
		return true
	}
	for i := range l.lists {
		if l.lists[i].number == f.number {
			l.passes, l.buf = Listed{list: &l.lists[i]}, l.buf[:0]
		}
	}
	return true
}

func (l *Listing) value(b []byte, last bool) {
	if l.passes.list == nil {
		return
	}
	l.buf = append(l.buf, b[:min(len(b), maxEntry-len(l.buf))]...)
	if last {
		l.passes.bytes = l.buf
		l.each(&l.passes)
	}
}

// ID is the sandbox's or container's id.
func (e *Listed) ID() (id []byte, container bool) {
	v, ok := at(e.bytes, e.list.id)
	if !ok || v.cut {
		return nil, false
	}
	return v.bytes(), e.list.container
}

// Facts are what the entry says of itself.
func (e *Listed) Facts() Facts {
	var w walker
	w.walk(e.list.facts, e.bytes)
	return w.facts
}

// containerRunning is CONTAINER_RUNNING.
const containerRunning = 1

// HasState: a list that says of its containers whether they run.
func (e *Listed) HasState() bool { return len(e.list.state) > 0 }

// Runs: a container that runs.
func (e *Listed) Runs() bool {
	state, _ := at(e.bytes, e.list.state)
	return state.bits == containerRunning
}

// Ran: a container that runs, or that was made anew before.
func (e *Listed) Ran() bool {
	attempt, _ := at(e.bytes, e.list.attempt)
	return e.Runs() || attempt.bits > 0
}

// at is the last field at the end of a path, by numbers.
func at(b []byte, path []protowire.Number) (found cursor, ok bool) {
	for i, number := range path {
		ok = false
		for c := (cursor{b: b}); c.next(); {
			if c.number == number && (c.wire == protowire.BytesType || i == len(path)-1) {
				found, ok = c, true
			}
		}
		if !ok {
			return cursor{}, false
		}
		b = found.bytes()
	}
	return found, ok
}

// numbers are those of a path's fields; nil where there is none of these names.
func numbers(d protoreflect.MessageDescriptor, path string) (all []protowire.Number) {
	for name := range strings.SplitSeq(path, ".") {
		if d == nil || d.Fields().ByName(protoreflect.Name(name)) == nil {
			return nil
		}
		fd := d.Fields().ByName(protoreflect.Name(name))
		all = append(all, fd.Number())
		d = fd.Message()
	}
	return all
}

// resolveLists turns what is listed into lists by the response's descriptor.
func (m *Method) resolveLists(fields map[protoreflect.Name]sources, response protoreflect.MessageDescriptor) error {
	for name, from := range fields {
		fd := response.Fields().ByName(name)
		if fd == nil || fd.IsMap() || fd.Message() == nil {
			return fmt.Errorf("%s has no messages in %q", response.FullName(), name)
		}
		l := list{number: fd.Number()}
		for i, s := range from {
			if err := s.plant(&l.facts, fd.Message(), s.path, i); err != nil {
				return fmt.Errorf("%s: %q: %w", name, s.path, err)
			}
			if s.fact == factContainerID || s.fact == factSandboxID && l.id == nil {
				l.id, l.container = numbers(fd.Message(), s.path), s.fact == factContainerID
			}
		}
		if l.container {
			l.state, l.attempt = numbers(fd.Message(), "state"), numbers(fd.Message(), "metadata.attempt")
		}
		m.lists = append(m.lists, l)
	}
	return nil
}
