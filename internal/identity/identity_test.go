package identity

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
)

const (
	criSocket = "/run/containerd/containerd.sock"
	csiSocket = "/var/lib/kubelet/plugins/nfs/csi.sock"
	uid       = "9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00"
	target    = "/var/lib/kubelet/pods/" + uid + "/volumes/kubernetes.io~csi/pv-1/mount"
	block     = "/k0s/plugins/kubernetes.io/csi/volumeDevices/publish/pv-1/" + uid
)

var web = call.Pod{Namespace: "shop", Name: "web", UID: uid}

// did is a call that ended with OK, or with the code given.
func did(method string, code ...string) *call.Record {
	r := &call.Record{State: call.Done, Code: "OK", Service: "runtime.v1.RuntimeService", Method: method, Socket: criSocket}
	if strings.HasPrefix(method, "Node") || method == "GetPluginInfo" {
		r.Service, r.Socket = "csi.v1.Node", csiSocket
	}
	if len(code) > 0 {
		r.Code = code[0]
	}
	return r
}

func podFacts(p call.Pod, f schema.Facts) schema.Facts {
	f.PodNamespace, f.PodName, f.PodUID = p.Namespace, p.Name, p.UID
	return f
}

// started is a Map that saw a pod start, and its server's name.
func started() *Map {
	m := New()
	m.Complete(did("Version"), schema.Facts{ServerName: "containerd"})
	m.Complete(did("RunPodSandbox"), podFacts(web, schema.Facts{SandboxID: "s1"}))
	m.Complete(did("CreateContainer"), podFacts(web, schema.Facts{SandboxID: "s1", ContainerID: "c1", ContainerName: "app", Image: "nginx:1"}))
	return m
}

// about is what Complete fills.
func about(r *call.Record) call.Record {
	return call.Record{Pod: r.Pod, Container: r.Container, SandboxID: r.SandboxID, Image: r.Image, Volume: r.Volume, Server: r.Server}
}

// TestPlaybook reads as a transcript: what calls pass, and what the last of them
// is about.
func TestPlaybook(t *testing.T) {
	type step struct {
		record *call.Record
		facts  schema.Facts
	}
	containerd := call.Server{Name: "containerd"}
	app := call.Record{Pod: web, Container: call.Container{ID: "c1", Name: "app"}, SandboxID: "s1", Image: "nginx:1", Server: containerd}
	byID := schema.Facts{ContainerID: "c1"}

	for name, test := range map[string]struct {
		steps []step
		want  call.Record
	}{
		"a container's id is enough": {[]step{{did("StartContainer"), byID}}, app},
		"also for a call that fails": {[]step{{did("ExecSync", "DEADLINE_EXCEEDED"), byID}}, app},
		"a sandbox's id is enough": {[]step{{did("StopPodSandbox"), schema.Facts{SandboxID: "s1"}}},
			call.Record{Pod: web, SandboxID: "s1", Server: containerd}},
		"a stranger stays one": {[]step{{did("StartContainer"), schema.Facts{ContainerID: "c9"}}},
			call.Record{Container: call.Container{ID: "c9"}, Server: containerd}},
		"a removed container is told once more": {[]step{{did("RemoveContainer"), byID}}, app},
		"and when it is asked for after that":   {[]step{{did("RemoveContainer"), byID}, {did("ContainerStatus", "NOT_FOUND"), byID}}, app},
		"containerd's own API takes a sandbox for a container": {[]step{{did("Get"), schema.Facts{ContainerID: "s1"}}},
			call.Record{Pod: web, Container: call.Container{ID: "s1"}, SandboxID: "s1", Server: containerd}},
		"one that could not be removed is not": {[]step{{did("RemoveContainer", "UNKNOWN"), byID}, {did("StopContainer"), byID}}, app},
		"a removed sandbox too": {[]step{{did("RemovePodSandbox"), schema.Facts{SandboxID: "s1"}}, {did("PodSandboxStatus", "NOT_FOUND"), schema.Facts{SandboxID: "s1"}}},
			call.Record{Pod: web, SandboxID: "s1", Server: containerd}},
		"a call that failed teaches nothing": {[]step{
			{did("RunPodSandbox", "UNKNOWN"), podFacts(call.Pod{Name: "x", Namespace: "y", UID: "z"}, schema.Facts{SandboxID: "s2"})},
			{did("StopPodSandbox"), schema.Facts{SandboxID: "s2"}}},
			call.Record{SandboxID: "s2", Server: containerd}},
		"nor does a filter": {[]step{
			{did("ListContainers"), schema.Facts{SandboxID: "s2", PodUID: uid, PodName: "web", PodNamespace: "shop"}},
			{did("StopPodSandbox"), schema.Facts{SandboxID: "s2"}}},
			call.Record{SandboxID: "s2", Server: containerd}},
		"a status teaches what was there before us": {[]step{
			{did("PodSandboxStatus"), podFacts(call.Pod{Name: "old", Namespace: "kube-system", UID: "u0"}, schema.Facts{SandboxID: "s0"})},
			{did("StopPodSandbox"), schema.Facts{SandboxID: "s0"}}},
			call.Record{Pod: call.Pod{Name: "old", Namespace: "kube-system", UID: "u0"}, SandboxID: "s0", Server: containerd}},
		"a status does not unlearn": {[]step{{did("ContainerStatus"), byID}, {did("StopContainer"), byID}}, app},
		"a target path names the pod": {[]step{{did("NodePublishVolume"), schema.Facts{VolumeID: "v1", VolumePath: target, StagingPath: "/s"}}},
			call.Record{Pod: web, Volume: call.Volume{ID: "v1", PV: "pv-1", Path: target, Driver: "nfs"}}},
		"a block target too, after the sandbox is gone": {[]step{
			{did("RemovePodSandbox"), schema.Facts{SandboxID: "s1"}}, {did("NodeUnpublishVolume"), schema.Facts{VolumePath: block}}},
			call.Record{Pod: web, Volume: call.Volume{PV: "pv-1", Path: block, Driver: "nfs"}}},
		"a staging path names none": {[]step{{did("NodeStageVolume"), schema.Facts{VolumeID: "v1", StagingPath: "/kubelet/plugins/kubernetes.io/csi/nfs/abc/globalmount"}}},
			call.Record{Volume: call.Volume{ID: "v1", Path: "/kubelet/plugins/kubernetes.io/csi/nfs/abc/globalmount", Driver: "nfs"}}},
		"the driver's own name wins over its path": {[]step{
			{did("GetPluginInfo"), schema.Facts{ServerName: "nfs.csi.k8s.io", Driver: "nfs.csi.k8s.io"}}, {did("NodeGetCapabilities"), schema.Facts{}}},
			call.Record{Volume: call.Volume{Driver: "nfs.csi.k8s.io"}, Server: call.Server{Name: "nfs.csi.k8s.io"}}},
		"a volume's context teaches a pod": {[]step{
			{did("NodePublishVolume"), schema.Facts{PodNamespace: "a", PodName: "b", PodUID: "u2", VolumePath: strings.Replace(target, uid, "u2", 1)}},
			{did("NodeGetVolumeStats"), schema.Facts{VolumePath: strings.Replace(target, uid, "u2", 1)}}},
			call.Record{Pod: call.Pod{Namespace: "a", Name: "b", UID: "u2"},
				Volume: call.Volume{PV: "pv-1", Path: strings.Replace(target, uid, "u2", 1), Driver: "nfs"}}},
		// Where the driver does not ask for podInfoOnMount, the context of a volume that is
		// written in a pod is its author's alone; the path is the kubelet's.
		"a volume's context does not make it another pod's": {[]step{
			{did("NodePublishVolume"), podFacts(web, schema.Facts{VolumePath: strings.Replace(target, uid, "u2", 1)})}},
			call.Record{Pod: call.Pod{UID: "u2"}, Volume: call.Volume{PV: "pv-1", Path: strings.Replace(target, uid, "u2", 1), Driver: "nfs"}}},
		"nor gives it another's name": {[]step{
			{did("NodePublishVolume"), schema.Facts{PodNamespace: "shop", PodName: "web", VolumePath: strings.Replace(target, uid, "u2", 1)}},
			{did("NodeUnpublishVolume"), schema.Facts{VolumePath: strings.Replace(target, uid, "u2", 1)}}},
			call.Record{Pod: call.Pod{UID: "u2"}, Volume: call.Volume{PV: "pv-1", Path: strings.Replace(target, uid, "u2", 1), Driver: "nfs"}}},
		"different pods are not mixed": {[]step{{did("ContainerStatus"), schema.Facts{ContainerID: "c1", PodUID: "other"}}},
			call.Record{Pod: call.Pod{UID: "other"}, Container: app.Container, SandboxID: "s1", Image: "nginx:1", Server: containerd}},
	} {
		t.Run(name, func(t *testing.T) {
			m := started()
			var last *call.Record
			for _, s := range test.steps {
				last = s.record
				m.Complete(last, s.facts)
			}
			if got := about(last); fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("\n got %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestFromPath(t *testing.T) {
	for _, test := range []struct {
		facts schema.Facts
		want  named
	}{
		{schema.Facts{VolumePath: target}, named{uid, "pv-1"}},
		{schema.Facts{VolumePath: "/data/pods/x/kubelet/pods/u1/volumes/kubernetes.io~csi/pv-1/mount"}, named{"u1", "pv-1"}},
		{schema.Facts{VolumePath: block}, named{uid, "pv-1"}},
		{schema.Facts{VolumePath: "/v/plugins/kubernetes.io/csi/volumeDevices/publish/pv-1"}, named{"", "pv-1"}},
		{schema.Facts{StagingPath: "/v/plugins/kubernetes.io/csi/volumeDevices/staging/pv-1"}, named{"", "pv-1"}},
		{schema.Facts{StagingPath: "/v/plugins/kubernetes.io/csi/nfs/0a/globalmount", VolumePath: target}, named{uid, "pv-1"}},
		{schema.Facts{VolumePath: "/mnt/volume"}, named{}},
		{schema.Facts{VolumePath: "/volumes/kubernetes.io~csi/pv-1/mount"}, named{}},
		{schema.Facts{VolumePath: "/pods/u1/x/volumes/kubernetes.io~csi/pv-1/mount"}, named{}},
		{schema.Facts{VolumePath: "/pods//volumes/kubernetes.io~csi//mount"}, named{}},
		{schema.Facts{}, named{}},
		// An inline volume: its directory is named by the pod's author.
		{schema.Facts{VolumePath: target, VolumeID: inlineHandle(named{uid, "pv-1"})}, named{uid, ""}},
		{schema.Facts{VolumePath: target, VolumeID: "csi-0"}, named{uid, "pv-1"}},
	} {
		if got := fromPath(test.facts); got != test.want {
			t.Errorf("%+v: %+v, want %+v", test.facts, got, test.want)
		}
	}
	for socket, want := range map[string]string{
		csiSocket: "nfs", "/run/csi.sock": "", "/var/lib/kubelet/plugins/a/b/csi.sock": "", criSocket: "", "/plugins/x/other.sock": "",
	} {
		if got := driverOf(socket); got != want {
			t.Errorf("%s: driver %q, want %q", socket, got, want)
		}
	}
}

// TestRecent: the entry of no use for the longest time goes first.
func TestRecent(t *testing.T) {
	r := newRecent[int](3)
	for i, key := range []string{"a", "b", "c"} {
		r.put(key, i)
	}
	r.get("a")
	r.put("b", 7)
	r.put("d", 3) // c goes
	r.drop("a")
	r.drop("a")
	r.put("e", 4)
	r.retire("e")
	r.retire("z")
	r.put("f", 5)
	r.put("g", 6) // e goes, which is not wanted any more
	got := []string{}
	for e := r.order.Front(); e != nil; e = e.Next() {
		got = append(got, fmt.Sprint(*e.Value.(*item[int])))
	}
	if want := "[{g 6} {f 5} {d 3}]"; fmt.Sprint(got) != want || len(r.entries) != 3 {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestBounded: any number of calls with names of any length stays within the
// bounds that are documented.
func TestBounded(t *testing.T) {
	m := New()
	long := strings.Repeat("x", maxName-8)
	name := func(i int, what string) string { return fmt.Sprintf("%s%7d%s", what, i, long) }
	for i := range 2 * maxContainers {
		r := did("CreateContainer")
		r.Socket = name(i, "k")
		m.Complete(r, schema.Facts{
			PodNamespace: name(i, "n"), PodName: name(i, "p"), PodUID: name(i, "u"), SandboxID: name(i, "s"),
			ContainerID: name(i, "c"), ContainerName: name(i, "a"), Image: name(i, "i"), ServerName: name(i, "r"),
		})
		m.Complete(did("NodePublishVolume"), schema.Facts{
			VolumeID: name(i, "v"), PV: name(i, "w"), PVC: name(i, "q"), VolumePath: strings.Replace(target, uid, name(i, "u")[:maxName-8], 1),
		})
		m.Complete(did("CreateContainer"), schema.Facts{ContainerID: strings.Repeat("y", maxName+1+i%7)})
	}
	for what, n := range map[string][2]int{
		"sandboxes": {len(m.sandboxes.entries), maxSandboxes}, "containers": {len(m.containers.entries), maxContainers},
		"pods": {len(m.pods.entries), maxPods}, "servers": {len(m.servers.entries), maxServers},
		"volumes": {len(m.volumes.entries), maxVolumes},
	} {
		if n[0] != n[1] {
			t.Errorf("%d %s, want %d", n[0], what, n[1])
		}
	}
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	if after.HeapAlloc > 64<<20 {
		t.Errorf("%d MB", after.HeapAlloc>>20)
	}
	runtime.KeepAlive(m)
}

func BenchmarkComplete(b *testing.B) {
	m := started()
	b.ReportAllocs()
	for b.Loop() {
		m.Complete(did("ExecSync"), schema.Facts{ContainerID: "c1"})
	}
}
