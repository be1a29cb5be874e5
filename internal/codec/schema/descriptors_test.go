package schema

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	contentapi "github.com/containerd/containerd/api/services/content/v1"
	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	eventsapi "github.com/containerd/containerd/api/services/events/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	mountsapi "github.com/containerd/containerd/api/services/mounts/v1"
	namespacesapi "github.com/containerd/containerd/api/services/namespaces/v1"
	sandboxapi "github.com/containerd/containerd/api/services/sandbox/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	streamingapi "github.com/containerd/containerd/api/services/streaming/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	transferapi "github.com/containerd/containerd/api/services/transfer/v1"
	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kmsapi "k8s.io/kms/apis/v2"
	devicepluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	drahealthapi "k8s.io/kubelet/pkg/apis/dra-health/v1"
	draapi "k8s.io/kubelet/pkg/apis/dra/v1"
	drabetaapi "k8s.io/kubelet/pkg/apis/dra/v1beta1"
	registrationapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	podresourcesapi "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// published are the files of each API as its module registers them. That they
// are all linked here shows that no two of them conflict.
func published() map[string][]protoreflect.FileDescriptor {
	of := func(all ...proto.Message) (files []protoreflect.FileDescriptor) {
		for _, m := range all {
			files = append(files, m.ProtoReflect().Descriptor().ParentFile())
		}
		return files
	}
	return map[string][]protoreflect.FileDescriptor{
		"cri":                of(&criapi.VersionRequest{}),
		"csi":                of(&csi.ProbeRequest{}),
		"deviceplugin":       of(&devicepluginapi.Empty{}),
		"dra":                of(&draapi.Claim{}),
		"dra-v1beta1":        of(&drabetaapi.Claim{}),
		"dra-health":         of(&drahealthapi.DeviceHealth{}),
		"podresources":       of(&podresourcesapi.PodResources{}),
		"pluginregistration": of(&registrationapi.PluginInfo{}),
		"kms":                of(&kmsapi.StatusRequest{}),
		"etcd":               of(&etcdserverpb.PutRequest{}),
		"errordetails":       of(&errdetails.ErrorInfo{}),
		"containerd": of(&containersapi.Container{}, &contentapi.Info{}, &diffapi.DiffRequest{}, &eventsapi.PublishRequest{}, &imagesapi.Image{},
			&introspectionapi.Plugin{}, &leasesapi.Lease{}, &mountsapi.ListRequest{}, &namespacesapi.Namespace{}, &sandboxapi.StoreGetRequest{},
			&snapshotsapi.Info{}, &streamingapi.StreamInit{}, &tasksapi.StartRequest{}, &transferapi.TransferRequest{}, &versionapi.VersionResponse{}),
	}
}

// TestDescriptorsAreTheModules: what is embedded is what the modules publish.
// `go test -update` writes it anew; TestVerdicts then shows what became of it.
func TestDescriptorsAreTheModules(t *testing.T) {
	for name, files := range published() {
		want := descriptorSet(t, files)
		path := "descriptors/" + name + ".binpb.gz"
		if *update {
			var b bytes.Buffer
			z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
			_, err := z.Write(want)
			must(t, err)
			must(t, z.Close())
			must(t, os.WriteFile(path, b.Bytes(), 0o644))
		}
		packed, err := os.ReadFile(path)
		must(t, err)
		z, err := gzip.NewReader(bytes.NewReader(packed))
		must(t, err)
		got, err := io.ReadAll(z)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what its module publishes: go test -update, and look at each new field in testdata/verdicts.txt", path)
		}
	}
	versions := moduleVersions(t)
	if *update {
		must(t, os.WriteFile("descriptors/modules.txt", []byte(versions), 0o644))
	}
	if got, err := descriptors.ReadFile("descriptors/modules.txt"); !*update && (err != nil || string(got) != versions) {
		t.Errorf("descriptors/modules.txt is not go.mod's: go test -update (%v)", err)
	}
	if n := len(published()); n != len(tables()) {
		t.Errorf("%d APIs are known, and %d compared", len(tables()), n)
	}
}

// moduleVersions are the modules that the descriptors are from, a line each.
func moduleVersions(t *testing.T) string {
	var names []string
	for _, a := range tables() {
		if !slices.Contains(names, a.module) {
			names = append(names, a.module)
		}
	}
	out, err := exec.Command("go", append([]string{"list", "-m"}, names...)...).Output()
	must(t, err)
	return string(out)
}

// descriptorSet is the files, and those that they import, before them.
func descriptorSet(t *testing.T, files []protoreflect.FileDescriptor) []byte {
	set := &descriptorpb.FileDescriptorSet{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if slices.ContainsFunc(set.File, func(p *descriptorpb.FileDescriptorProto) bool { return p.GetName() == f.Path() }) {
			return
		}
		p := protodesc.ToFileDescriptorProto(f)
		p.SourceCodeInfo = nil
		for i := range f.Imports().Len() {
			imported := f.Imports().Get(i).FileDescriptor
			if imported.IsPlaceholder() { // etcd registers its files without the directory by which it imports them
				p.Dependency[i] = filepath.Base(imported.Path())
				found, err := protoregistry.GlobalFiles.FindFileByPath(p.Dependency[i])
				must(t, err)
				imported = found
			}
			add(imported)
		}
		set.File = append(set.File, p)
	}
	for _, f := range files {
		add(f)
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	must(t, err)
	return raw
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
