package schema

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// createContainer is what a kubelet sends for an ordinary container: 20
// variables, six mounts, annotations.
func createContainer() *criapi.CreateContainerRequest {
	labels := map[string]string{
		"app.kubernetes.io/name": "web", "pod-template-hash": "5d4f8c7b9", "io.kubernetes.pod.name": "web-5d4f8c7b9-x2x7k",
		"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": "9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00", "io.kubernetes.container.name": "web",
	}
	config := &criapi.ContainerConfig{
		Metadata: &criapi.ContainerMetadata{Name: "web"},
		Image: &criapi.ImageSpec{Image: "sha256:4bb46517cac397bdb0bab6eba09b0e1f8e90ddd17cf99662997c3253531136f8",
			UserSpecifiedImage: "registry.example.com/shop/web:1.42.0"},
		Command: []string{"/usr/bin/web"}, Args: []string{"--listen", ":8080", "--token", "hush"},
		Labels: labels, Annotations: map[string]string{"io.kubernetes.container.hash": "b2d9", "io.kubernetes.container.ports": `[{"containerPort":8080}]`},
		LogPath: "web/0.log",
		Linux: &criapi.LinuxContainerConfig{
			Resources:       &criapi.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 1 << 29, OomScoreAdj: 984},
			SecurityContext: &criapi.LinuxContainerSecurityContext{NoNewPrivs: true, NamespaceOptions: &criapi.NamespaceOption{Pid: criapi.NamespaceMode_CONTAINER}},
		},
	}
	for i := range 20 {
		config.Envs = append(config.Envs, &criapi.KeyValue{Key: fmt.Sprintf("SERVICE_%d_HOST", i), Value: []byte("10.96.0.1 and a bit more")})
	}
	for i := range 6 {
		config.Mounts = append(config.Mounts, &criapi.Mount{ContainerPath: fmt.Sprintf("/var/lib/data/%d", i), Readonly: i%2 == 0,
			HostPath: fmt.Sprintf("/var/lib/kubelet/pods/9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00/volumes/kubernetes.io~projected/%d", i)})
	}
	return &criapi.CreateContainerRequest{
		PodSandboxId: "3b0f7d6cc3a4d2a1e5b66a9d0a7d8c2ef0e5a1c7d9b3f4e8a6c0d2b4f6e8a0c1", Config: config,
		SandboxConfig: &criapi.PodSandboxConfig{
			Metadata: &criapi.PodSandboxMetadata{Name: "web-5d4f8c7b9-x2x7k", Uid: "9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00", Namespace: "shop"},
			Hostname: "web-5d4f8c7b9-x2x7k", LogDirectory: "/var/log/pods/shop_web-5d4f8c7b9-x2x7k_9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00",
			DnsConfig: &criapi.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"shop.svc.cluster.local", "svc.cluster.local"}},
			Labels:    labels, Linux: &criapi.LinuxPodSandboxConfig{CgroupParent: "/kubepods/burstable/pod9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00"},
		},
	}
}

// What it costs to show a typical container: under 5 µs, and one allocation.
func BenchmarkRenderCreateContainer(b *testing.B) {
	m, wire := lookup(runtimeService, "CreateContainer").Request, marshal(b, createContainer())
	out, _ := render(m, wire, true, 2048)
	b.Logf("%d bytes of wire, %d of JSON: %s", len(wire), len(out), out)
	b.ReportAllocs()
	r := &Renderer{}
	// A tap holds as much; without, memory would be collected all the time.
	heap := make([]byte, 32<<20)
	for b.Loop() {
		r.Render(m, Prefix{Bytes: wire, Whole: true}, 2048)
	}
	runtime.KeepAlive(heap)
}

// The kept prefix of a list costs the same whatever the list's length.
func BenchmarkRenderListContainers(b *testing.B) {
	for _, pods := range []int{440, 4400, 44000} {
		list := &criapi.ListContainersResponse{}
		for i := range pods {
			list.Containers = append(list.Containers, &criapi.Container{Id: fmt.Sprint("c", i), Labels: createContainer().Config.Labels,
				Annotations: createContainer().Config.Annotations, Metadata: &criapi.ContainerMetadata{Name: "web"}})
		}
		m, wire := lookup(runtimeService, "ListContainers").Response, marshal(b, list)
		from := Prefix{Bytes: wire[:64<<10], Past: Follow(wire[:64<<10])}
		from.Past.Write(wire[64<<10:])
		r := &Renderer{}
		b.Run(fmt.Sprintf("%dKiB", len(wire)>>10), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Render(m, from, 2048)
			}
		})
	}
}

// What following a long list behind its prefix costs, a byte.
func BenchmarkFollow(b *testing.B) {
	entry := make([]byte, 1500)
	var wire []byte
	for range 1000 {
		wire = append(append(wire, 0x0a, 0xdc, 0x0b), entry...)
	}
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		p := Follow(nil)
		for chunk := range slices.Chunk(wire, 16<<10) {
			p.Write(chunk)
		}
	}
}

func BenchmarkFactsCreateContainer(b *testing.B) {
	m, wire := lookup(runtimeService, "CreateContainer"), marshal(b, createContainer())
	b.ReportAllocs()
	for b.Loop() {
		m.Facts(wire, nil)
	}
}

// What the first call of an API pays, once a process.
func BenchmarkCompile(b *testing.B) {
	for _, a := range tables() {
		b.Run(a.name, func(b *testing.B) {
			for b.Loop() {
				compileAPI(a)
			}
		})
	}
}
