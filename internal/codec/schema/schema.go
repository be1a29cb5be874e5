// Package schema knows the APIs that are spoken on a node's sockets: their
// messages' descriptors, what a method's call is about, and what of a payload
// may be shown.
//
// A payload is rendered straight from its wire bytes, in table order, into a
// budget: no message is ever built, so that a prefix renders as well as a whole
// message does, and a 16 MiB list costs what the bytes at hand cost. Fields show
// because a table (cri.go, csi.go) lists them; everything else, and every field
// that a newer server may add, is left out.
package schema

import (
	"iter"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/reflect/protoreflect"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Method is one method of an API that we know.
type Method struct {
	Service, Name     string // "runtime.v1.RuntimeService", "StartContainer"
	Request, Response protoreflect.MessageDescriptor
	// ServerStreaming: the response is any number of messages. No method of
	// these APIs streams requests.
	ServerStreaming bool

	request, response []step // where the facts of a call are
}

// Lookup finds a method by its service's full name and its own name; nil where
// the API, or the method, is not one that we know.
func Lookup(service, method string) *Method {
	return known().methods[methodName{service, method}]
}

// Methods yields every method known, in the order of the APIs' own files.
func Methods() iter.Seq[*Method] {
	return func(yield func(*Method) bool) {
		for _, m := range known().order {
			if !yield(m) {
				return
			}
		}
	}
}

type methodName struct{ service, method string }

// registry is everything that Lookup and Render need, compiled from
// descriptors and tables.
type registry struct {
	methods map[methodName]*Method
	order   []*Method
	// messages holds a plan for each message of the tables. The key is the
	// descriptor and not its name: another file's message of the same name is
	// another message, of which nothing shows.
	messages map[protoreflect.MessageDescriptor]*message
	// problems are the mistakes in the tables. A field that has one does not
	// show; a test fails for each.
	problems []error
}

// known compiles the tables at first use, so that a process that decodes
// nothing (the relay, the guard) does not pay for them.
var known = sync.OnceValue(func() *registry {
	files := []protoreflect.FileDescriptor{
		cri.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto,
		csi.File_csi_proto,
	}
	return compile(files, []table{criShown, csiShown}, []about{criAbout, csiAbout})
})
