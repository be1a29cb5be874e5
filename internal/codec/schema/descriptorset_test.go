package schema

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// acme is a service of somebody's own, with a field that is marked by CSI's
// option and one that is by protobuf's.
func acme() *descriptorpb.FileDescriptorSet {
	field := func(name string, n int32, typ descriptorpb.FieldDescriptorProto_Type, o *descriptorpb.FieldOptions) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{Name: &name, Number: &n, Type: &typ, Options: o, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
	}
	marked := &descriptorpb.FieldOptions{}
	proto.SetExtension(marked, csi.E_CsiSecret, true)
	text := descriptorpb.FieldDescriptorProto_TYPE_STRING
	return &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{{
		Name: new("acme.proto"), Package: new("acme.v1"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Request"), Field: []*descriptorpb.FieldDescriptorProto{
			field("note", 1, text, nil), field("pin", 2, text, marked), field("puk", 3, text, &descriptorpb.FieldOptions{DebugRedact: new(true)}),
			field("size", 4, descriptorpb.FieldDescriptorProto_TYPE_INT64, nil),
		}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("Vault"), Method: []*descriptorpb.MethodDescriptorProto{{
			Name: new("Open"), InputType: new(".acme.v1.Request"), OutputType: new(".acme.v1.Request"),
		}}}},
	}}}
}

func TestDescriptorSet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acme.binpb")
	must(t, os.WriteFile(path, marshal(t, acme()), 0o600))
	apis, err := WithDescriptorSet(path)
	must(t, err)
	m := apis.Lookup("acme.v1.Vault", "Open")
	if m == nil || apis.Lookup("acme.v1.Vault", "Shut") != nil || apis.Lookup("csi.v1.Node", "NodePublishVolume") == nil {
		t.Fatal("the service is not known, or ours are not any more")
	}
	var wire []byte
	for n := range protowire.Number(3) {
		wire = protowire.AppendString(protowire.AppendTag(wire, n+1, protowire.BytesType), "hunter2")
	}
	wire = protowire.AppendVarint(protowire.AppendTag(wire, 4, protowire.VarintType), 9)
	for level, want := range map[Level]string{
		Safe: `{"note":"‹string, 7 bytes›","pin":"‹string, 7 bytes›","puk":"‹string, 7 bytes›","size":"‹int64›"}`,
		Full: `{"note":"hunter2","pin":"‹string, 7 bytes›","puk":"‹string, 7 bytes›","size":9}`,
	} {
		if out, _ := (&Renderer{Policy: Policy{Payload: level}}).Render(m.Request, Prefix{Bytes: wire, Whole: true}, 2048); string(out) != want {
			t.Errorf("%v: %s", level, out)
		}
	}
}

// TestBrokenDescriptorSets: each is an error that says which file, what is wrong
// with it, and what to do.
func TestBrokenDescriptorSets(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, b, 0o600))
		return path
	}
	noImport := acme()
	noImport.File[0].Dependency = []string{"google/protobuf/empty.proto"}
	noService := acme()
	noService.File[0].Service = nil
	dangling := acme()
	dangling.File[0].Service[0].Method[0].InputType = new(".acme.v1.Nothing")
	large := file("large", nil)
	must(t, os.Truncate(large, maxDescriptorSet+1))
	whole := marshal(t, acme())
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file",
		dir:                        "is a directory",
		file("text", []byte("syntax = \"proto3\";")): "protoc --include_imports --descriptor_set_out=FILE",
		file("empty", nil):                           "no service is in it",
		file("cut", whole[:len(whole)-9]):            "protoc --include_imports",
		file("no-import", marshal(t, noImport)):      "google/protobuf/empty.proto",
		file("no-service", marshal(t, noService)):    "no service is in it",
		file("dangling", marshal(t, dangling)):       "acme.v1.Nothing",
		large:                                        "too many",
	} {
		_, err := WithDescriptorSet(path)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), path) != 1 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", path, err, want)
		}
	}
}

// TestANewerFieldStaysHidden: what a newer release of a known API adds shows by
// its number.
func TestANewerFieldStaysHidden(t *testing.T) {
	wire := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "c1")
	wire = protowire.AppendString(protowire.AppendTag(wire, 77, protowire.BytesType), "hunter2")
	for _, level := range []Level{Safe, Full} {
		out, _ := (&Renderer{Policy: Policy{Payload: level}}).Render(message(t, protoreflect.FullName("runtime.v1.StartContainerRequest")).plan, Prefix{Bytes: wire, Whole: true}, 2048)
		if string(out) != `{"container_id":"c1","77":"‹7 bytes›"}` {
			t.Errorf("%v: %s", level, out)
		}
	}
}
