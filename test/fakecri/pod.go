package fakecri

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A Pod is what a [Kubelet] starts. Empty fields get plausible values: UID from namespace and name, one container "main".
type Pod struct {
	Namespace, Name, UID string
	ServiceAccount       string
	Labels, Annotations  map[string]string
	Containers           []Container
	Volumes              []Volume
}

// A Container is one container of a pod.
type Container struct {
	Name, Image   string
	Command, Args []string
	Env           map[string]string
}

// A Volume is one CSI volume of a pod.
type Volume struct {
	Driver    string // a name given to [WithCSI]; empty: [DefaultDriver]
	Handle    string
	PV, PVC   string
	FSType    string
	Block     bool
	Ephemeral bool              // inline in the pod: published without being staged
	Context   map[string]string // the PV's volumeAttributes
	Secrets   map[string]string
}

func (p Pod) withDefaults() Pod {
	p.Namespace = cmp.Or(p.Namespace, "default")
	if p.UID == "" {
		h := hash("pod " + p.Namespace + "/" + p.Name)
		p.UID = fmt.Sprintf("%s-%s-4%s-a%s-%s", h[:8], h[8:12], h[13:16], h[17:20], h[20:32])
	}
	p.ServiceAccount = cmp.Or(p.ServiceAccount, "default")
	p.Containers = slices.Clone(p.Containers)
	if len(p.Containers) == 0 {
		p.Containers = []Container{{Name: "main"}}
	}
	for i := range p.Containers {
		p.Containers[i].Image = cmp.Or(p.Containers[i].Image, "registry.example.com/team/app:1.27.3")
	}
	p.Volumes = slices.Clone(p.Volumes)
	for i := range p.Volumes {
		p.Volumes[i].Driver = cmp.Or(p.Volumes[i].Driver, DefaultDriver)
	}
	return p
}

func (p Pod) labels(more ...string) map[string]string {
	l := map[string]string{
		"io.kubernetes.pod.name": p.Name, "io.kubernetes.pod.namespace": p.Namespace, "io.kubernetes.pod.uid": p.UID,
	}
	for i := 0; i < len(more); i += 2 {
		l[more[i]] = more[i+1]
	}
	return l
}

func (p Pod) sandboxConfig(attempt uint32) *cri.PodSandboxConfig {
	labels := p.labels()
	maps.Copy(labels, p.Labels)
	annotations := map[string]string{
		"kubernetes.io/config.seen": "2026-10-05T07:14:41.882914507Z", "kubernetes.io/config.source": "api",
	}
	maps.Copy(annotations, p.Annotations)
	return &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: p.Name, Uid: p.UID, Namespace: p.Namespace, Attempt: attempt},
		Hostname: p.Name, LogDirectory: "/var/log/pods/" + p.Namespace + "_" + p.Name + "_" + p.UID,
		DnsConfig: &cri.DNSConfig{
			Servers:  []string{"10.96.0.10"},
			Searches: []string{p.Namespace + ".svc.cluster.local", "svc.cluster.local", "cluster.local"},
			Options:  []string{"ndots:5"},
		},
		Labels: labels, Annotations: annotations,
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(p.UID, "-", "_") + ".slice",
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			},
			Resources: &cri.LinuxContainerResources{CpuPeriod: 100000, CpuShares: 102, MemoryLimitInBytes: 128 << 20},
		},
	}
}

func (p Pod) containerConfig(c Container, image string, attempt uint32) *cri.ContainerConfig {
	podDir := kubeletDir + "/pods/" + p.UID
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: c.Name, Attempt: attempt},
		Image:    &cri.ImageSpec{Image: image, UserSpecifiedImage: c.Image},
		Command:  c.Command, Args: c.Args,
		Envs: []*cri.KeyValue{
			{Key: "KUBERNETES_SERVICE_HOST", Value: []byte("10.96.0.1")}, {Key: "KUBERNETES_SERVICE_PORT", Value: []byte("443")},
		},
		Mounts: []*cri.Mount{
			{ContainerPath: "/var/run/secrets/kubernetes.io/serviceaccount", HostPath: podDir + "/volumes/kubernetes.io~projected/kube-api-access", Readonly: true},
			{ContainerPath: "/etc/hosts", HostPath: podDir + "/etc-hosts"},
			{ContainerPath: "/dev/termination-log", HostPath: podDir + "/containers/" + c.Name + "/" + hash(p.UID + c.Name)[:8]},
		},
		Labels: p.labels("io.kubernetes.container.name", c.Name),
		Annotations: map[string]string{
			"io.kubernetes.container.hash":                     hash(c.Name + c.Image)[:8],
			"io.kubernetes.container.restartCount":             fmt.Sprint(attempt),
			"io.kubernetes.container.terminationMessagePath":   "/dev/termination-log",
			"io.kubernetes.container.terminationMessagePolicy": "File",
			"io.kubernetes.pod.terminationGracePeriod":         "30",
		},
		LogPath: fmt.Sprintf("%s/%d.log", c.Name, attempt),
		Linux: &cri.LinuxContainerConfig{
			Resources: &cri.LinuxContainerResources{CpuPeriod: 100000, CpuShares: 102, MemoryLimitInBytes: 128 << 20, OomScoreAdj: 996},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
				MaskedPaths:      []string{"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list"},
			},
		},
	}
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		config.Envs = append(config.Envs, &cri.KeyValue{Key: k, Value: []byte(c.Env[k])})
	}
	for i, v := range p.Volumes {
		if !v.Block {
			config.Mounts = append(config.Mounts, &cri.Mount{ContainerPath: fmt.Sprintf("/mnt/volume-%d", i), HostPath: TargetPath(p.UID, v)})
		}
	}
	return config
}

// AddPods puts n running pods filler/pod-NNNN of one container each into the runtime, as if they had always been there. In
// a list a sandbox and a container are 1.5 KB each: 110 pods make lists of 165 KB.
func (rt *Runtime) AddPods(n int) {
	s := rt.node
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		p := Pod{
			Namespace: "filler", Name: fmt.Sprintf("pod-%04d", s.sandboxes.puts), Labels: map[string]string{"app": "filler"},
			Annotations: map[string]string{"kubectl.kubernetes.io/last-applied-configuration": strings.Repeat(`{"name":"a","value":"1"},`, 38)},
		}.withDefaults()
		sb, err := s.runSandbox(p.sandboxConfig(0), "")
		if err != nil {
			panic(err) // puts only grows: the name is new
		}
		image := s.pull(&cri.ImageSpec{Image: p.Containers[0].Image})
		config := p.containerConfig(p.Containers[0], image.Id, 0)
		config.Annotations["io.kubernetes.container.ports"] = strings.Repeat(`{"containerPort":8080},`, 24)
		s.startContainer(s.createContainer(sb, config))
	}
}

const kubeletDir = "/var/lib/kubelet"

// TargetPath is where the kubelet has a volume published for a pod.
func TargetPath(podUID string, v Volume) string {
	if v.Block {
		return kubeletDir + "/plugins/kubernetes.io/csi/volumeDevices/publish/" + v.PV + "/" + podUID
	}
	return kubeletDir + "/pods/" + podUID + "/volumes/kubernetes.io~csi/" + v.PV + "/mount"
}

// StagingPath is where the kubelet has a volume staged for the node; an ephemeral volume has no such path.
func StagingPath(v Volume) string {
	switch {
	case v.Ephemeral:
		return ""
	case v.Block:
		return kubeletDir + "/plugins/kubernetes.io/csi/volumeDevices/staging/" + v.PV
	default:
		return kubeletDir + "/plugins/kubernetes.io/csi/" + cmp.Or(v.Driver, DefaultDriver) + "/" + hash(v.Handle) + "/globalmount"
	}
}

func (v Volume) capability() *csi.VolumeCapability {
	c := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
	if v.Block {
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	} else {
		c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: v.FSType}}
	}
	return c
}

// context is a volume's volume_context as staged: what the PV says, with the names that a provisioner adds.
func (v Volume) context(p Pod) map[string]string {
	m := map[string]string{}
	if v.PVC != "" {
		m["csi.storage.k8s.io/pv/name"] = v.PV
		m["csi.storage.k8s.io/pvc/name"] = v.PVC
		m["csi.storage.k8s.io/pvc/namespace"] = p.Namespace
	}
	maps.Copy(m, v.Context)
	return m
}

// podContext is a volume's volume_context as published: podInfoOnMount adds the pod.
func (v Volume) podContext(p Pod) map[string]string {
	m := v.context(p)
	m["csi.storage.k8s.io/pod.name"] = p.Name
	m["csi.storage.k8s.io/pod.namespace"] = p.Namespace
	m["csi.storage.k8s.io/pod.uid"] = p.UID
	m["csi.storage.k8s.io/serviceAccount.name"] = p.ServiceAccount
	m["csi.storage.k8s.io/ephemeral"] = fmt.Sprint(v.Ephemeral)
	return m
}
