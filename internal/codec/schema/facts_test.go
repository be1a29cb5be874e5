package schema

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	devicepluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	draapi "k8s.io/kubelet/pkg/apis/dra/v1"
	podresourcesapi "k8s.io/kubelet/pkg/apis/podresources/v1"
)

const (
	runtimeService = "runtime.v1.RuntimeService"
	imageService   = "runtime.v1.ImageService"
)

func lookup(service, method string) *Method { return (&APIs{}).Lookup(service, method) }

// filledOf is the wire form of a filled message that has this plan.
func filledOf(t testing.TB, m *Message) []byte {
	for _, p := range payloads() {
		if p.d.FullName() == m.name && len(p.plan.fields) == len(m.fields) {
			return marshal(t, filled(p.api, p.d, 3))
		}
	}
	t.Fatalf("no message %s", m.name)
	return nil
}

func TestFacts(t *testing.T) {
	metadata := &criapi.PodSandboxMetadata{Namespace: "ns", Name: "web", Uid: "u1"}
	labels := map[string]string{
		"app": "x", "io.kubernetes.pod.namespace": "ns", "io.kubernetes.pod.name": "web", "io.kubernetes.pod.uid": "u1",
	}
	context := map[string]string{
		"csi.storage.k8s.io/pod.namespace": "ns", "csi.storage.k8s.io/pod.name": "web", "csi.storage.k8s.io/pod.uid": "u1",
		"csi.storage.k8s.io/pv/name": "pv-1", "csi.storage.k8s.io/pvc/name": "data", "share": "x",
	}
	for _, test := range []struct {
		service, method   string
		request, response proto.Message
		want              Facts
	}{
		{runtimeService, "Version", &criapi.VersionRequest{}, &criapi.VersionResponse{RuntimeName: "containerd"}, Facts{ServerName: "containerd"}},
		{runtimeService, "RunPodSandbox",
			&criapi.RunPodSandboxRequest{Config: &criapi.PodSandboxConfig{Metadata: metadata}}, &criapi.RunPodSandboxResponse{PodSandboxId: "s1"},
			Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1", SandboxID: "s1"}},
		{runtimeService, "RunPodSandbox", // failed: there is no response
			&criapi.RunPodSandboxRequest{Config: &criapi.PodSandboxConfig{Metadata: metadata}}, nil,
			Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1"}},
		{runtimeService, "CreateContainer",
			&criapi.CreateContainerRequest{PodSandboxId: "s1", SandboxConfig: &criapi.PodSandboxConfig{Metadata: metadata},
				Config: &criapi.ContainerConfig{Metadata: &criapi.ContainerMetadata{Name: "app"}, Image: &criapi.ImageSpec{Image: "nginx:1"}}},
			&criapi.CreateContainerResponse{ContainerId: "c1"},
			Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1", SandboxID: "s1", ContainerID: "c1", ContainerName: "app", Image: "nginx:1"}},
		{runtimeService, "StartContainer", &criapi.StartContainerRequest{ContainerId: "c1"}, nil, Facts{ContainerID: "c1"}},
		{runtimeService, "ExecSync", &criapi.ExecSyncRequest{ContainerId: "c1", Cmd: []string{"x"}}, nil, Facts{ContainerID: "c1"}},
		{runtimeService, "ContainerStatus", &criapi.ContainerStatusRequest{ContainerId: "c1"},
			&criapi.ContainerStatusResponse{Status: &criapi.ContainerStatus{Id: "c1-in-full", Metadata: &criapi.ContainerMetadata{Name: "app"},
				Image: &criapi.ImageSpec{Image: "sha256:1", UserSpecifiedImage: "nginx:1"}, Labels: labels}},
			Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1", ContainerID: "c1-in-full", ContainerName: "app", Image: "nginx:1"}},
		{runtimeService, "PodSandboxStatus", &criapi.PodSandboxStatusRequest{PodSandboxId: "s1"},
			&criapi.PodSandboxStatusResponse{Status: &criapi.PodSandboxStatus{Id: "s1", Metadata: metadata}},
			Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1", SandboxID: "s1"}},
		{runtimeService, "StopPodSandbox", &criapi.StopPodSandboxRequest{PodSandboxId: "s1"}, nil, Facts{SandboxID: "s1"}},
		{runtimeService, "PortForward", &criapi.PortForwardRequest{PodSandboxId: "s1"}, nil, Facts{SandboxID: "s1"}},
		{runtimeService, "ListContainers", &criapi.ListContainersRequest{Filter: &criapi.ContainerFilter{PodSandboxId: "s1",
			LabelSelector: map[string]string{"io.kubernetes.pod.uid": "u1"}}}, nil, Facts{SandboxID: "s1", PodUID: "u1"}},
		{imageService, "PullImage",
			&criapi.PullImageRequest{Image: &criapi.ImageSpec{Image: "nginx:1"}, SandboxConfig: &criapi.PodSandboxConfig{Metadata: metadata}},
			&criapi.PullImageResponse{ImageRef: "sha256:1"}, Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1", Image: "nginx:1"}},
		{imageService, "ImageStatus", &criapi.ImageStatusRequest{Image: &criapi.ImageSpec{Image: "nginx:1"}}, nil, Facts{Image: "nginx:1"}},
		{"csi.v1.Identity", "GetPluginInfo", nil, &csi.GetPluginInfoResponse{Name: "nfs.csi.k8s.io"},
			Facts{ServerName: "nfs.csi.k8s.io", Driver: "nfs.csi.k8s.io"}},
		{"csi.v1.Controller", "CreateVolume",
			&csi.CreateVolumeRequest{Parameters: map[string]string{"csi.storage.k8s.io/pv/name": "pv-1", "csi.storage.k8s.io/pvc/name": "data"}},
			&csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: "v1"}}, Facts{VolumeID: "v1", PV: "pv-1", PVC: "data"}},
		{"csi.v1.Node", "NodePublishVolume",
			&csi.NodePublishVolumeRequest{VolumeId: "v1", TargetPath: "/t", StagingTargetPath: "/s", VolumeContext: context}, nil,
			Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1", PV: "pv-1", PVC: "data", VolumeID: "v1", VolumePath: "/t", StagingPath: "/s"}},
		{"csi.v1.Node", "NodeUnstageVolume", &csi.NodeUnstageVolumeRequest{VolumeId: "v1", StagingTargetPath: "/s"}, nil,
			Facts{VolumeID: "v1", StagingPath: "/s"}},
		{"csi.v1.Node", "NodeGetVolumeStats", &csi.NodeGetVolumeStatsRequest{VolumeId: "v1", VolumePath: "/t"}, nil,
			Facts{VolumeID: "v1", VolumePath: "/t"}},
		{"v1beta1.DevicePlugin", "Allocate",
			&devicepluginapi.AllocateRequest{ContainerRequests: []*devicepluginapi.ContainerAllocateRequest{{DevicesIds: []string{"GPU-1", "GPU-2"}}, {DevicesIds: []string{"GPU-3"}}}},
			nil, Facts{Subject: "GPU-1"}},
		{"etcdserverpb.KV", "Range", &etcdserverpb.RangeRequest{Key: []byte("/registry/secrets/shop/db")}, nil, Facts{Subject: "/registry/secrets/shop/db"}},
		{"k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin", "NodePrepareResources",
			&draapi.NodePrepareResourcesRequest{Claims: []*draapi.Claim{{Name: "gpu", Namespace: "shop", Uid: "u"}, {Name: "nic"}}}, nil, Facts{Subject: "gpu"}},
		{"v1.PodResourcesLister", "Get", &podresourcesapi.GetPodResourcesRequest{PodName: "web", PodNamespace: "shop"}, nil, Facts{PodNamespace: "shop", PodName: "web"}},
		{"containerd.services.images.v1.Images", "Get", &imagesapi.GetImageRequest{Name: "docker.io/library/nginx:1"}, nil, Facts{Image: "docker.io/library/nginx:1"}},
		{"csi.v1.Node", "NodeStageVolume", // a handle with a credential in it, as of an SMB share
			&csi.NodeStageVolumeRequest{VolumeId: "smb://user:hunter2@nas/share", StagingTargetPath: "/s"}, nil,
			Facts{VolumeID: "smb://‹scrubbed›@nas/share", StagingPath: "/s"}},
	} {
		m := lookup(test.service, test.method)
		var request, response []byte
		if test.request != nil {
			request = marshal(t, test.request)
		}
		if test.response != nil {
			response = marshal(t, test.response)
		}
		if got := m.Facts(request, response); got != test.want {
			t.Errorf("%s:\n got %+v\nwant %+v", test.method, got, test.want)
		}
	}
}

// TestFactsOfPrefixes: a value that the prefix cut is no fact, whatever the
// place of the cut; a fact is what the whole message says, or nothing.
func TestFactsOfPrefixes(t *testing.T) {
	for m := range Methods() {
		request, response := filledOf(t, m.Request), filledOf(t, m.Response)
		whole := m.Facts(request, response)
		for n := 0; n < max(len(request), len(response)); n += 1 + n/40 {
			got := m.Facts(request[:min(n, len(request))], response[:min(n, len(response))])
			for which := range factCount {
				if v := *got.at(which); v != "" && (!strings.HasPrefix(v, "canary/") || !strings.HasSuffix(v, "~")) {
					t.Fatalf("%s, %d bytes: %q, of %q", m.Name, n, v, *whole.at(which))
				}
			}
		}
	}
}

// TestFactsLimit: what is longer than any path names nothing, and bytes that are
// no text do not leave as such.
func TestFactsLimit(t *testing.T) {
	m := lookup(runtimeService, "StopPodSandbox")
	for id, want := range map[string]string{
		strings.Repeat("x", maxFact): strings.Repeat("x", maxFact), strings.Repeat("x", maxFact+1): "", "a\xffb": "a\ufffdb",
	} {
		wire := append([]byte{0x0a, byte(len(id)&0x7f | 0x80), byte(len(id) >> 7)}, id...)
		if got := m.Facts(wire, nil).SandboxID; got != want {
			t.Errorf("%d bytes: %d bytes", len(id), len(got))
		}
	}
}
