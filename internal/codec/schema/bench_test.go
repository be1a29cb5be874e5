package schema

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// createContainer is what a kubelet sends for an ordinary container: 20
// variables, six mounts, annotations.
func createContainer() *cri.CreateContainerRequest {
	labels := map[string]string{
		"app.kubernetes.io/name": "web", "pod-template-hash": "5d4f8c7b9", "io.kubernetes.pod.name": "web-5d4f8c7b9-x2x7k",
		"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": "9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00", "io.kubernetes.container.name": "web",
	}
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "web"},
		Image: &cri.ImageSpec{Image: "sha256:4bb46517cac397bdb0bab6eba09b0e1f8e90ddd17cf99662997c3253531136f8",
			UserSpecifiedImage: "registry.example.com/shop/web:1.42.0"},
		Command: []string{"/usr/bin/web"}, Args: []string{"--listen", ":8080", "--token", "hush"},
		Labels: labels, Annotations: map[string]string{"io.kubernetes.container.hash": "b2d9", "io.kubernetes.container.ports": `[{"containerPort":8080}]`},
		LogPath: "web/0.log",
		Linux: &cri.LinuxContainerConfig{
			Resources:       &cri.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 1 << 29, OomScoreAdj: 984},
			SecurityContext: &cri.LinuxContainerSecurityContext{NoNewPrivs: true, NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}},
		},
	}
	for i := range 20 {
		config.Envs = append(config.Envs, &cri.KeyValue{Key: fmt.Sprintf("SERVICE_%d_HOST", i), Value: []byte("10.96.0.1 and a bit more")})
	}
	for i := range 6 {
		config.Mounts = append(config.Mounts, &cri.Mount{ContainerPath: fmt.Sprintf("/var/lib/data/%d", i), Readonly: i%2 == 0,
			HostPath: fmt.Sprintf("/var/lib/kubelet/pods/9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00/volumes/kubernetes.io~projected/%d", i)})
	}
	return &cri.CreateContainerRequest{
		PodSandboxId: "3b0f7d6cc3a4d2a1e5b66a9d0a7d8c2ef0e5a1c7d9b3f4e8a6c0d2b4f6e8a0c1", Config: config,
		SandboxConfig: &cri.PodSandboxConfig{
			Metadata: &cri.PodSandboxMetadata{Name: "web-5d4f8c7b9-x2x7k", Uid: "9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00", Namespace: "shop"},
			Hostname: "web-5d4f8c7b9-x2x7k", LogDirectory: "/var/log/pods/shop_web-5d4f8c7b9-x2x7k_9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00",
			DnsConfig: &cri.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"shop.svc.cluster.local", "svc.cluster.local"}},
			Labels:    labels, Linux: &cri.LinuxPodSandboxConfig{CgroupParent: "/kubepods/burstable/pod9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00"},
		},
	}
}

func BenchmarkRenderCreateContainer(b *testing.B) {
	d, wire := Lookup(runtimeService, "CreateContainer").Request, marshal(b, createContainer())
	out, _ := Render(d, wire, true, 4096)
	b.Logf("%d bytes of wire, %d of JSON: %s", len(wire), len(out), out)
	b.ReportAllocs()
	for b.Loop() {
		Render(d, wire, true, 4096)
	}
}

// A 64 KiB prefix of a list of containers costs what its first entries cost.
func BenchmarkRenderListContainers(b *testing.B) {
	list := &cri.ListContainersResponse{}
	for i := range 110 {
		list.Containers = append(list.Containers, &cri.Container{Id: fmt.Sprint("c", i), Labels: createContainer().Config.Labels,
			Annotations: createContainer().Config.Annotations, Metadata: &cri.ContainerMetadata{Name: "web"}})
	}
	d, wire := Lookup(runtimeService, "ListContainers").Response, marshal(b, list)
	b.ReportAllocs()
	for b.Loop() {
		Render(d, wire[:min(len(wire), 64<<10)], false, 2048)
	}
}

func BenchmarkFactsCreateContainer(b *testing.B) {
	m, wire := Lookup(runtimeService, "CreateContainer"), marshal(b, createContainer())
	b.ReportAllocs()
	for b.Loop() {
		m.Facts(wire, nil)
	}
}

// What the first call pays, once a process.
func BenchmarkCompile(b *testing.B) {
	file, csiFile := Lookup(runtimeService, "Version").Request.ParentFile(), Lookup("csi.v1.Identity", "Probe").Request.ParentFile()
	for b.Loop() {
		compile([]protoreflect.FileDescriptor{file, csiFile}, []table{criShown, csiShown}, []about{criAbout, csiAbout})
	}
}
