package schema

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// table says what may be shown: a message's full name, and the fields of it
// that show, most important first. The order is that of the output, and what
// exceeds the budget is cut at the end: put what identifies the object first
// and long lists last. What is not listed is told by name, type and length,
// before the first list or map.
//
// A map field names the keys that show, "labels[key key]"; only anyKey shows
// them all. Free text is marked as such: it is scrubbed of credentials, may be
// cut, and can be turned off. A nested message shows by its own entry, wherever
// it is used, and must have one. There is no wildcard for fields, on purpose: a
// field that a new release of an API adds stays hidden until somebody has looked
// at it.
type table map[protoreflect.FullName][]string

const (
	// anyKey lets every key of a map show, but for those that say that their
	// value is a credential.
	anyKey = "[*]"
	// freeText marks a field that holds whatever somebody wrote: an error's words.
	freeText = " (text)"
)

// verdict is what becomes of a field's value.
type verdict uint8

const (
	byName verdict = iota // its name, type and length; under Full, the value
	shown                 // the value
	text                  // the value, scrubbed, unless free text is turned off
	never                 // its name, type and length, whatever is asked for
)

// entry is one entry of a table, taken apart.
type entry struct {
	name    protoreflect.Name
	keys    []string // of a map: those that show
	isMap   bool
	anyKey  bool
	verdict verdict
}

func parseEntry(s string) entry {
	e := entry{verdict: shown}
	s, isText := strings.CutSuffix(s, freeText)
	if isText {
		e.verdict = text
	}
	name, rest, isMap := strings.Cut(s, "[")
	e.name, e.isMap = protoreflect.Name(name), isMap
	if rest = strings.TrimSuffix(rest, "]"); rest == "*" {
		e.anyKey = true
	} else {
		e.keys = strings.Fields(rest)
	}
	return e
}
