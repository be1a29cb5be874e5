package schema

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	runtimeService = "runtime.v1.RuntimeService"
	imageService   = "runtime.v1.ImageService"
)

func TestFacts(t *testing.T) {
	metadata := &cri.PodSandboxMetadata{Namespace: "ns", Name: "web", Uid: "u1"}
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
		{runtimeService, "Version", &cri.VersionRequest{}, &cri.VersionResponse{RuntimeName: "containerd"}, Facts{ServerName: "containerd"}},
		{runtimeService, "RunPodSandbox",
			&cri.RunPodSandboxRequest{Config: &cri.PodSandboxConfig{Metadata: metadata}}, &cri.RunPodSandboxResponse{PodSandboxId: "s1"},
			Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1", SandboxID: "s1"}},
		{runtimeService, "RunPodSandbox", // failed: there is no response
			&cri.RunPodSandboxRequest{Config: &cri.PodSandboxConfig{Metadata: metadata}}, nil,
			Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1"}},
		{runtimeService, "CreateContainer",
			&cri.CreateContainerRequest{PodSandboxId: "s1", SandboxConfig: &cri.PodSandboxConfig{Metadata: metadata},
				Config: &cri.ContainerConfig{Metadata: &cri.ContainerMetadata{Name: "app"}, Image: &cri.ImageSpec{Image: "nginx:1"}}},
			&cri.CreateContainerResponse{ContainerId: "c1"},
			Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1", SandboxID: "s1", ContainerID: "c1", ContainerName: "app", Image: "nginx:1"}},
		{runtimeService, "StartContainer", &cri.StartContainerRequest{ContainerId: "c1"}, nil, Facts{ContainerID: "c1"}},
		{runtimeService, "ExecSync", &cri.ExecSyncRequest{ContainerId: "c1", Cmd: []string{"x"}}, nil, Facts{ContainerID: "c1"}},
		{runtimeService, "ContainerStatus", &cri.ContainerStatusRequest{ContainerId: "c1"},
			&cri.ContainerStatusResponse{Status: &cri.ContainerStatus{Id: "c1-in-full", Metadata: &cri.ContainerMetadata{Name: "app"},
				Image: &cri.ImageSpec{Image: "sha256:1", UserSpecifiedImage: "nginx:1"}, Labels: labels}},
			Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1", ContainerID: "c1-in-full", ContainerName: "app", Image: "nginx:1"}},
		{runtimeService, "PodSandboxStatus", &cri.PodSandboxStatusRequest{PodSandboxId: "s1"},
			&cri.PodSandboxStatusResponse{Status: &cri.PodSandboxStatus{Id: "s1", Metadata: metadata}},
			Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1", SandboxID: "s1"}},
		{runtimeService, "StopPodSandbox", &cri.StopPodSandboxRequest{PodSandboxId: "s1"}, nil, Facts{SandboxID: "s1"}},
		{runtimeService, "PortForward", &cri.PortForwardRequest{PodSandboxId: "s1"}, nil, Facts{SandboxID: "s1"}},
		{runtimeService, "ListContainers", &cri.ListContainersRequest{Filter: &cri.ContainerFilter{PodSandboxId: "s1",
			LabelSelector: map[string]string{"io.kubernetes.pod.uid": "u1"}}}, nil, Facts{SandboxID: "s1", PodUID: "u1"}},
		{imageService, "PullImage",
			&cri.PullImageRequest{Image: &cri.ImageSpec{Image: "nginx:1"}, SandboxConfig: &cri.PodSandboxConfig{Metadata: metadata}},
			&cri.PullImageResponse{ImageRef: "sha256:1"}, Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1", Image: "nginx:1"}},
		{imageService, "ImageStatus", &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: "nginx:1"}}, nil, Facts{Image: "nginx:1"}},
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
	} {
		m := Lookup(test.service, test.method)
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
		request, response := marshal(t, filled(m.Request)), marshal(t, filled(m.Response))
		whole := m.Facts(request, response)
		for n := range max(len(request), len(response)) {
			got := m.Facts(request[:min(n, len(request))], response[:min(n, len(response))])
			for which := range factCount {
				if v := *got.at(which); v != "" && (!strings.HasPrefix(v, "canary:") || !strings.HasSuffix(v, "]")) {
					t.Fatalf("%s, %d bytes: %q, of %q", m.Name, n, v, *whole.at(which))
				}
			}
		}
	}
}

// TestFactsLimit: what is longer than any path names nothing, and bytes that are
// no text do not leave as such.
func TestFactsLimit(t *testing.T) {
	m := Lookup(runtimeService, "StopPodSandbox")
	for id, want := range map[string]string{
		strings.Repeat("x", maxFact): strings.Repeat("x", maxFact), strings.Repeat("x", maxFact+1): "", "a\xffb": "a\ufffdb",
	} {
		wire := append([]byte{0x0a, byte(len(id)&0x7f | 0x80), byte(len(id) >> 7)}, id...)
		if got := m.Facts(wire, nil).SandboxID; got != want {
			t.Errorf("%d bytes: %d bytes", len(id), len(got))
		}
	}
}
