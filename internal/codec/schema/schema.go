// Package schema knows the APIs that are spoken on a node's sockets: their
// messages, what a method's call is about, and what of a payload may be shown.
//
// A payload is rendered straight from its wire bytes, in table order, into a
// budget: no message is ever built, so that a prefix renders as well as a whole
// message does, and a 16 MiB list costs what the bytes at hand cost. A value
// shows because a table lists its field (one file an API: cri.go, csi.go, …);
// everything else, and every field that a newer server may add, is told by name,
// type and length. Of an API that nobody knows the wire tells field numbers and
// wire types, and no more is said.
//
// Nothing here is built before it is asked for: the relay is a process of the
// same binary and knows no API.
package schema

import (
	"iter"
	"sync"
)

// Method is one method of an API.
type Method struct {
	Service, Name     string // "runtime.v1.RuntimeService", "StartContainer"
	Request, Response *Message
	// Streaming: of that side there is any number of messages.
	ClientStreaming, ServerStreaming bool

	request, response []step // where the facts of a call are
	lists             []list // of the response
	exitCode          bool   // Response tells a command's exit code
}

// APIs are those that are known to a tap: ours, and what a user's descriptor
// set adds. The zero value knows ours.
type APIs struct {
	added map[string]*compiled // by service
}

// Lookup finds a method by its service's full name and its own name. Of one that
// nobody knows it gives nil.
func (a *APIs) Lookup(service, method string) *Method {
	name := methodName{service, method}
	if get := ours().services[service]; get != nil {
		if m := get().methods[name]; m != nil {
			return m
		}
	}
	if a == nil || a.added[service] == nil {
		return nil
	}
	return a.added[service].methods[name]
}

// Methods yields every method of our APIs, in the order of their own files.
func Methods() iter.Seq[*Method] {
	return func(yield func(*Method) bool) {
		for _, get := range ours().order {
			for _, m := range get().order {
				if !yield(m) {
					return
				}
			}
		}
	}
}

type methodName struct{ service, method string }

// index finds an API by its services. Each is compiled at first use, so that the
// tap of a storage driver does not pay for containerd's.
type index struct {
	services map[string]func() *compiled
	order    []func() *compiled
}

var ours = sync.OnceValue(func() *index {
	x := &index{services: map[string]func() *compiled{}}
	for _, a := range tables() {
		get := sync.OnceValue(func() *compiled { return compileAPI(a) })
		x.order = append(x.order, get)
		for _, s := range a.services {
			x.services[s] = get
		}
	}
	return x
})
