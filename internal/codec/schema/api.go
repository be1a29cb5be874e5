package schema

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io"
	"path"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// An api is what we know of one API.
type api struct {
	name     string   // of its file in descriptors
	module   string   // the Go module that publishes its .proto
	services []string // all of them, by full name
	shown    table    // what may be shown
	// never are fields, by full name, whose values nobody gets to see, asked for
	// or not, beside those that the API itself marks as secret.
	never    []protoreflect.FullName
	about    about    // what its calls are about
	listings listings // what other objects their responses tell of
}

// tables are all that we know, in the order in which it is told.
func tables() []api {
	return []api{
		cri(), csiAPI(), devicePlugin(), dra(), draBeta(), draHealth(), podResources(), pluginRegistration(),
		containerd(), kms(), etcd(), errorDetails(),
	}
}

// descriptors are the APIs' own files, one set for each API, as `go test -update`
// takes them out of the modules; a test holds that they are the modules'. Linking
// the modules' packages instead would cost every process 1 MiB at its start, the
// relay too (docs/decisions/0006).
//
//go:embed descriptors
var descriptors embed.FS

func compileAPI(a api) *compiled {
	files, err := a.files()
	if err != nil {
		return &compiled{problems: []error{fmt.Errorf("descriptors of %s: %w", a.name, err)}}
	}
	return compile(files, a)
}

// release is the module and version that an API's descriptors are from.
func (a *api) release() string {
	all, _ := descriptors.ReadFile("descriptors/modules.txt")
	for line := range strings.Lines(string(all)) {
		if strings.HasPrefix(line, a.module+" ") {
			return strings.TrimSpace(line)
		}
	}
	return a.module
}

// files reads an API's descriptors.
func (a *api) files() (*protoregistry.Files, error) {
	packed, err := descriptors.ReadFile(path.Join("descriptors", a.name+".binpb.gz"))
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	return readSet(raw)
}

// readSet reads a FileDescriptorSet, as protoc --descriptor_set_out writes it.
func readSet(raw []byte) (*protoregistry.Files, error) {
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(raw, set); err != nil {
		return nil, err
	}
	return protodesc.NewFiles(set)
}
