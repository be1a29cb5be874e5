package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
)

// hear has m learn from a response, as the tap does, and says how much was news.
func hear(t testing.TB, m *Map, method string, asked schema.Facts, response proto.Message) (news int) {
	t.Helper()
	wire, err := proto.Marshal(response)
	if err != nil {
		t.Fatal(err)
	}
	(*schema.APIs)(nil).Lookup("runtime.v1.RuntimeService", method).Listing(func(e *schema.Listed) {
		if _, ok := m.Learn(e, asked); ok {
			news++
		}
	}).Write(wire)
	return news
}

// knows is what m makes of a call with nothing but an id.
func knows(m *Map, f schema.Facts) call.Record {
	r := did("StopContainer")
	m.Complete(r, f)
	return about(r)
}

// listOf is what a runtime lists of a pod with containers.
func listOf(i, containers int) (*criapi.PodSandbox, []*criapi.Container) {
	uid, name := fmt.Sprintf("9f3c1c8e-0c55-4d0b-9b0e-%012d", i), fmt.Sprintf("web-%d", i)
	labels := map[string]string{"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": name, "io.kubernetes.pod.uid": uid}
	s := &criapi.PodSandbox{Id: fmt.Sprintf("s%063d", i), Labels: labels, Metadata: &criapi.PodSandboxMetadata{Namespace: "shop", Name: name, Uid: uid}}
	var all []*criapi.Container
	for c := range containers {
		all = append(all, &criapi.Container{
			Id: fmt.Sprintf("%064d", i*1000+c), PodSandboxId: s.Id, Metadata: &criapi.ContainerMetadata{Name: fmt.Sprintf("app-%d", c)},
			Image: &criapi.ImageSpec{UserSpecifiedImage: fmt.Sprintf("registry.example.com/team/app-%d:%d", c, i)}, Labels: labels,
		})
	}
	return s, all
}

// TestLearn: the kubelet's own lists, statuses and events name all that was there
// before, and are news once.
func TestLearn(t *testing.T) {
	m := New()
	s, cs := listOf(7, 2)
	pod := call.Pod{Namespace: "shop", Name: "web-7", UID: s.Metadata.Uid}
	if n := hear(t, m, "ListPodSandbox", schema.Facts{}, &criapi.ListPodSandboxResponse{Items: []*criapi.PodSandbox{s}}); n != 1 {
		t.Errorf("%d news", n)
	}
	for _, want := range []int{2, 0} {
		if n := hear(t, m, "ListContainers", schema.Facts{}, &criapi.ListContainersResponse{Containers: cs}); n != want {
			t.Errorf("%d news, want %d", n, want)
		}
	}
	if got, want := knows(m, schema.Facts{ContainerID: cs[1].Id}), (call.Record{Pod: pod, SandboxID: s.Id,
		Container: call.Container{ID: cs[1].Id, Name: "app-1"}, Image: cs[1].Image.UserSpecifiedImage}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	if got := knows(m, schema.Facts{SandboxID: s.Id}).Pod; got != pod {
		t.Errorf("%+v", got)
	}
	if m.Lists() != 5 {
		t.Errorf("%d listed", m.Lists())
	}

	// An entry that does not say whose it is belongs to what was asked for.
	hear(t, m, "PodSandboxStatus", schema.Facts{SandboxID: s.Id}, &criapi.PodSandboxStatusResponse{
		ContainersStatuses: []*criapi.ContainerStatus{{Id: "c9", Metadata: &criapi.ContainerMetadata{Name: "late"}}}})
	hear(t, m, "RestorePod", podFacts(web, schema.Facts{}), &criapi.RestorePodResponse{
		RestoredContainers: []*criapi.RestoredContainer{{ContainerId: "c10", Name: "back"}}})
	for id, want := range map[string]call.Pod{"c9": pod, "c10": web} {
		if got := knows(m, schema.Facts{ContainerID: id}).Pod; got != want {
			t.Errorf("%s: %+v, want %+v", id, got, want)
		}
	}
	// What is too long to be remembered is not.
	hear(t, m, "ListContainers", schema.Facts{}, &criapi.ListContainersResponse{Containers: []*criapi.Container{{Id: strings.Repeat("x", maxName+1), PodSandboxId: s.Id}, {}}})
	if n := len(m.containers.entries); n != 4 {
		t.Errorf("%d containers", n)
	}
}

// TestNamesBeforeTheEnd: what a caller says of its own pod is known while the call
// runs, and where it fails.
func TestNamesBeforeTheEnd(t *testing.T) {
	for _, state := range []call.State{call.Running, call.Done} {
		m := New()
		r := did("RunPodSandbox", "UNKNOWN")
		r.State = state
		m.Complete(r, podFacts(web, schema.Facts{}))
		publish := did("NodePublishVolume")
		m.Complete(publish, schema.Facts{VolumeID: "v1", VolumePath: target})
		if publish.Pod != web {
			t.Errorf("%s: %+v", state, publish.Pod)
		}
	}
}

// TestVolumes: who stages a volume is who then publishes it, and who unstages it who
// had it last; and a handle tells the PV.
func TestVolumes(t *testing.T) {
	m := started()
	stage, early, running := did("NodeStageVolume"), did("NodeStageVolume"), did("NodePublishVolume")
	early.Start, stage.Start, running.Start = time.Unix(10, 0), time.Unix(20, 0), time.Unix(15, 0)
	running.State, running.Code = call.Running, ""
	staged := schema.Facts{VolumeID: "v1", StagingPath: "/s"}
	m.Complete(early, staged)
	m.Complete(running, schema.Facts{VolumeID: "v1", VolumePath: target, PVC: "data"})
	m.Fill(early)
	m.Complete(stage, staged)
	if early.Pod != web || early.Volume.PV != "pv-1" || early.Volume.PVC != "data" {
		t.Errorf("staged for whom? %+v", about(early))
	}
	if stage.Pod != (call.Pod{}) || stage.Volume.PV != "pv-1" {
		t.Errorf("staged again, for another: %+v", about(stage))
	}
	unstage := did("NodeUnstageVolume")
	m.Complete(unstage, staged)
	if unstage.Pod != web {
		t.Errorf("unstaged: %+v", about(unstage))
	}
	other := did("NodeUnstageVolume")
	other.Socket = "/var/lib/kubelet/plugins/smb/csi.sock"
	m.Complete(other, staged)
	if other.Pod != (call.Pod{}) || other.Volume.PV != "" {
		t.Errorf("another driver's volume of that handle: %+v", about(other))
	}
}

// TestReadVolumes: the kubelet's files say which pod has which volume.
func TestReadVolumes(t *testing.T) {
	dir := t.TempDir()
	write := func(pod, pv, content string) {
		d := filepath.Join(dir, "pods", pod, "volumes/kubernetes.io~csi", pv)
		if err := errors.Join(os.MkdirAll(d, 0o755), os.WriteFile(filepath.Join(d, "vol_data.json"), []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write(uid, "pv-1", `{"attachmentID":"x","driverName":"nfs","nodeName":"n","specVolID":"pv-1","volumeHandle":"v1","volumeLifecycleMode":"Persistent"}`)
	write(uid, "scratch", `{"driverName":"nfs","specVolID":"scratch","volumeHandle":"csi-1","volumeLifecycleMode":"Ephemeral"}`)
	write(uid, "pv-2", `{"driverName":"nfs","specVolID":"pv-2","volumeHandle":"shared"}`)
	write("u2", "pv-2", `{"driverName":"nfs","specVolID":"pv-2","volumeHandle":"shared"}`)
	write("u2", "broken", `{"volumeHandle":`)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.WriteFile(outside, []byte(`{"volumeHandle":"v9","driverName":"nfs","specVolID":"stolen"}`), 0o644),
		os.MkdirAll(filepath.Join(dir, "pods/u3/volumes/kubernetes.io~csi/pv-9"), 0o755),
		os.Symlink(outside, filepath.Join(dir, "pods/u3/volumes/kubernetes.io~csi/pv-9/vol_data.json"))); err != nil {
		t.Fatal(err)
	}

	m := started()
	if err := m.ReadVolumes(dir); err == nil || !strings.Contains(err.Error(), "u2/volumes/kubernetes.io~csi/broken") {
		t.Errorf("error %v", err)
	}
	for handle, want := range map[string]call.Record{
		"v1":     {Pod: web, Volume: call.Volume{ID: "v1", PV: "pv-1", Driver: "nfs", Path: "/s"}},
		"csi-1":  {Pod: web, Volume: call.Volume{ID: "csi-1", Driver: "nfs", Path: "/s"}},
		"shared": {Volume: call.Volume{ID: "shared", PV: "pv-2", Driver: "nfs", Path: "/s"}},
		"v9":     {Volume: call.Volume{ID: "v9", Driver: "nfs", Path: "/s"}},
	} {
		r := did("NodeStageVolume")
		m.Complete(r, schema.Facts{VolumeID: handle, StagingPath: "/s"})
		if got := about(r); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s:\n got %+v\nwant %+v", handle, got, want)
		}
	}
	if err := m.ReadVolumes(dir + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// TestReadVolumesOfOrphans: a pod that could not be tidied away leaves its file. It
// says nothing against a pod that was heard of after it was written.
func TestReadVolumesOfOrphans(t *testing.T) {
	dir := t.TempDir()
	write := func(pod string, age time.Duration) {
		d := filepath.Join(dir, "pods", pod, "volumes/kubernetes.io~csi/pv-1")
		name := filepath.Join(d, "vol_data.json")
		written := time.Now().Add(-age)
		if err := errors.Join(os.MkdirAll(d, 0o755), os.WriteFile(name, []byte(`{"driverName":"nfs","specVolID":"pv-1","volumeHandle":"v1"}`), 0o644),
			os.Chtimes(name, written, written)); err != nil {
			t.Fatal(err)
		}
	}
	m := started()
	unstagedFor := func(want string) {
		t.Helper()
		if err := m.ReadVolumes(dir); err != nil {
			t.Error(err)
		}
		r := did("NodeUnstageVolume")
		m.Complete(r, schema.Facts{VolumeID: "v1", StagingPath: "/s"})
		if r.Pod.UID != want {
			t.Errorf("unstaged for %q, want %q", r.Pod.UID, want)
		}
	}
	write("orphan", time.Hour)
	unstagedFor("orphan") // nobody else was heard of
	r := did("NodeUnpublishVolume")
	r.Start = time.Now().Add(-time.Minute)
	m.Complete(r, schema.Facts{VolumeID: "v1", VolumePath: target})
	unstagedFor(uid)
	write("next", time.Second) // as before Kubernetes 1.36: before it is staged
	if err := os.RemoveAll(filepath.Join(dir, "pods", "orphan")); err != nil {
		t.Fatal(err)
	}
	unstagedFor("next")
}

// TestMemory: a node of 500 pods with 5,000 containers, by its lists, is held in
// what docs/operations.md says.
func TestMemory(t *testing.T) {
	heap := func() int {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int(s.HeapAlloc)
	}
	before := heap()
	m := New()
	for i := range 500 {
		s, cs := listOf(i, 10)
		hear(t, m, "ListPodSandbox", schema.Facts{}, &criapi.ListPodSandboxResponse{Items: []*criapi.PodSandbox{s}})
		hear(t, m, "ListContainers", schema.Facts{}, &criapi.ListContainersResponse{Containers: cs})
	}
	held := heap() - before
	t.Logf("%d KiB", held>>10)
	if held > 8<<20 || len(m.containers.entries) != 5000 || len(m.pods.entries) != 500 {
		t.Errorf("%d KiB for %d containers of %d pods", held>>10, len(m.containers.entries), len(m.pods.entries))
	}
	runtime.KeepAlive(m)
}

// A list of 500 containers that are known, as it passes every second.
func BenchmarkKnownList(b *testing.B) {
	list := &criapi.ListContainersResponse{}
	for i := range 50 {
		_, cs := listOf(i, 10)
		list.Containers = append(list.Containers, cs...)
	}
	wire, err := proto.Marshal(list)
	if err != nil {
		b.Fatal(err)
	}
	m := New()
	method := (*schema.APIs)(nil).Lookup("runtime.v1.RuntimeService", "ListContainers")
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		method.Listing(func(e *schema.Listed) { m.Learn(e, schema.Facts{}) }).Write(wire)
	}
}
