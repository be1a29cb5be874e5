package schema

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

var verdicts = map[verdict]string{byName: "name", shown: "show", text: "text", never: "never"}

// Describe lists, for an auditor, every API, its methods, and every field that
// their messages can hold, with what becomes of its value under Safe:
//
//	show   the value shows; of a map, that of the keys in brackets
//	text   the value shows, scrubbed of credentials, unless --messages none
//	name   name, type and length show; under Full the value
//	never  name, type and length show, whatever is asked for
//
// A field of a message that does not show itself cannot show either.
func Describe(w io.Writer) error {
	for _, a := range tables() {
		c := compileAPI(a)
		if _, err := fmt.Fprintf(w, "\n# %s, of %s\n", a.name, a.release()); err != nil {
			return err
		}
		for _, m := range c.order {
			fmt.Fprintf(w, "%s/%s %s\n", m.Service, m.Name, m.signature())
		}
		for _, name := range slices.Sorted(maps.Keys(c.messages)) {
			for _, f := range c.messages[name].fields {
				if _, err := fmt.Fprintf(w, "%s.%s%s %s\n", name, strings.Trim(f.label, `":`), f.keysShown(), verdicts[f.verdict]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// signature is "runtime.v1.StatusRequest → runtime.v1.StatusResponse", with
// "stream" before what there is any number of.
func (m *Method) signature() string {
	stream := func(streams bool, of *Message) string {
		if streams {
			return "stream " + string(of.name)
		}
		return string(of.name)
	}
	return stream(m.ClientStreaming, m.Request) + " → " + stream(m.ServerStreaming, m.Response)
}

func (f *field) keysShown() string {
	switch {
	case !f.isMap || f.verdict == byName || f.verdict == never:
		return ""
	case f.anyKey:
		return anyKey
	}
	return "[" + strings.Join(f.keys, " ") + "]"
}

// Service is one that is known.
type Service struct {
	Name    string // full
	Release string // the Go module that its descriptors are from, and version
}

// Services are all that are known, in the order of their APIs.
func Services() (all []Service) {
	for _, a := range tables() {
		for _, s := range a.services {
			all = append(all, Service{Name: s, Release: a.release()})
		}
	}
	return all
}
