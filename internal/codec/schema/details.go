package schema

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The fields of google.rpc.Status and google.protobuf.Any that details are in.
const (
	statusDetails = 3
	anyType       = 1
	anyValue      = 2
)

// Details gives the error details of a grpc-status-details-bin, a
// google.rpc.Status, as a JSON array of at most budget bytes: each an object
// with its message's name as "@type". What google.rpc defines is free text, and
// scrubbed as such; of others type and length are told. Nil where there are none.
func (p Policy) Details(status []byte, budget int) (out json.RawMessage, trimmed bool) {
	if p.NoMessages {
		return nil, false
	}
	r := Renderer{Policy: Policy{Payload: Safe}}
	c := cursor{b: status, whole: true}
	for c.next() {
		if c.number != statusDetails || c.wire != protowire.BytesType {
			continue
		}
		one, cut := r.detail(c.bytes(), budget-len(out)-len("[]"))
		if trimmed = trimmed || cut; one == nil {
			break
		}
		out = append(append(out, ','), one...)
	}
	if out == nil {
		return nil, trimmed
	}
	out[0] = '['
	return append(out, ']'), trimmed || c.broken
}

// detail gives one google.protobuf.Any.
func (r *Renderer) detail(wire []byte, budget int) (out []byte, trimmed bool) {
	var name, value []byte
	c := cursor{b: wire, whole: true}
	for c.next() {
		switch {
		case c.wire != protowire.BytesType:
		case c.number == anyType:
			name = c.bytes()[bytes.LastIndexByte(c.bytes(), '/')+1:]
		case c.number == anyValue:
			value = c.bytes()
		}
	}
	if len(name) > maxTypeName || !protoreflect.FullName(name).IsValid() {
		name = []byte("unknown")
	}
	head := `{"@type":"` + string(name) + `"`
	m := errorMessages().messages[protoreflect.FullName(name)]
	if m == nil { // nobody knows it: its length
		m = &Message{}
	}
	body, trimmed := r.Render(m, Prefix{Bytes: value, Whole: true}, budget-len(head))
	switch {
	case len(body) < MinBudget:
		return nil, true
	case len(body) == MinBudget:
		return append([]byte(head), '}'), trimmed
	}
	return append(append([]byte(head), ','), body[1:]...), trimmed
}

// maxTypeName bounds a type's name, in bytes.
const maxTypeName = 256
