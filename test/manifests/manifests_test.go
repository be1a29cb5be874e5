// Package manifests holds deploy/daemonset against what reads it: Kubernetes' own types,
// and grpc-tap's settings. It is a module of its own for kustomize's sake.
package manifests

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const deploy = "../../deploy/daemonset"

// nodes are those that an overlay is for: what the agent has to reach there, and what its
// pod has to be.
var nodes = map[string]struct {
	socket, kubelet, hostDir, seLinux string
	also                              string // an object beside the usual ones
}{
	".":                     {socket: "/run/containerd/containerd.sock", kubelet: usual},
	"overlays/k0s":          {socket: "/run/k0s/containerd.sock", kubelet: "/var/lib/k0s/kubelet"},
	"overlays/microk8s":     {socket: "/var/snap/microk8s/common/run/containerd.sock", kubelet: "/var/snap/microk8s/common/var/lib/kubelet"},
	"overlays/gke":          {socket: "/run/containerd/containerd.sock", kubelet: usual, hostDir: "/home/kubernetes/bin/grpc-tap", also: "ResourceQuota"},
	"overlays/selinux":      {socket: "/run/crio/crio.sock", kubelet: usual, hostDir: "/usr/local/bin/grpc-tap", seLinux: "spc_t"},
	"overlays/openshift":    {socket: "/run/crio/crio.sock", kubelet: usual, hostDir: "/usr/local/bin/grpc-tap", seLinux: "spc_t", also: "RoleBinding"},
	"overlays/bottlerocket": {socket: "/run/containerd/containerd.sock", kubelet: usual, hostDir: "/opt/csi/grpc-tap", seLinux: "super_t"},
}

const usual = "/var/lib/kubelet"

// TestRendered: what kubectl apply -k would send is what Kubernetes knows, field by field,
// reaches what it is for, and starts an agent.
func TestRendered(t *testing.T) {
	program := build(t)
	overlays, err := filepath.Glob(deploy + "/overlays/*")
	if err != nil || len(overlays) != len(nodes)-1 {
		t.Errorf("%d overlays, and of %d it is said here what for (%v)", len(overlays), len(nodes)-1, err)
	}
	for dir, node := range nodes {
		t.Run(dir, func(t *testing.T) {
			r := render(t, filepath.Join(deploy, dir))
			kinds := []string{"ConfigMap", "DaemonSet", "Namespace", "ServiceAccount"}
			if node.also != "" {
				kinds = append(kinds, node.also)
			}
			slices.Sort(kinds)
			if !slices.Equal(r.kinds, kinds) {
				t.Errorf("it is %v, not %v", r.kinds, kinds)
			}
			pod := r.set.Spec.Template.Spec
			for _, path := range []string{node.socket, node.kubelet} {
				if !reaches(pod, path) {
					t.Errorf("%s of the node is not at its own path in the pod: %+v", path, pod.Containers[0].VolumeMounts)
				}
			}
			args := pod.Containers[0].Args
			if has := slices.Contains(args, "--host-dir="+node.hostDir); has != (node.hostDir != "") {
				t.Errorf("%q: --host-dir is to be %q", args, node.hostDir)
			}
			answers(t, r.set.Spec.Template)
			if policy := pod.Containers[0].TerminationMessagePolicy; policy != core.TerminationMessageFallbackToLogsOnError {
				t.Errorf("kubectl describe does not say why an agent ended: %q", policy)
			}
			if o := pod.Containers[0].SecurityContext.SELinuxOptions; o == nil && node.seLinux != "" || o != nil && o.Type != node.seLinux {
				t.Errorf("SELinux: %v, not %q", o, node.seLinux)
			}
			starts(t, program, args, r.config)
		})
	}
}

// rendered is what kustomize makes of a directory.
type rendered struct {
	kinds  []string
	set    apps.DaemonSet
	config string // the file of settings
}

func render(t *testing.T, dir string) (r rendered) {
	t.Helper()
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var settings core.ConfigMap
	as := map[string]any{
		"ConfigMap": &settings, "DaemonSet": &r.set, "Namespace": &core.Namespace{}, "ServiceAccount": &core.ServiceAccount{},
		"ResourceQuota": &core.ResourceQuota{}, "RoleBinding": &rbac.RoleBinding{},
	}
	for _, o := range objects.Resources() {
		text, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		// As the API server does, and unlike encoding/json: hostPid is not hostPID.
		unknown, err := json.UnmarshalStrict(text, as[o.GetKind()])
		if err := errors.Join(append(unknown, err)...); err != nil {
			t.Errorf("%s: %v", o.GetKind(), err)
		}
		if ns := o.GetNamespace(); o.GetKind() != "Namespace" && ns != "grpc-tap" {
			t.Errorf("%s is of namespace %q", o.GetKind(), ns)
		}
		r.kinds = append(r.kinds, o.GetKind())
	}
	slices.Sort(r.kinds)
	r.config = settings.Data["config.yaml"]
	return r
}

// reaches: a path of the node's is at the same path in the pod.
func reaches(pod core.PodSpec, path string) bool {
	return slices.ContainsFunc(pod.Volumes, func(v core.Volume) bool {
		if v.HostPath == nil || !strings.HasPrefix(path+"/", v.HostPath.Path+"/") {
			return false
		}
		return slices.ContainsFunc(pod.Containers[0].VolumeMounts, func(m core.VolumeMount) bool {
			return m.Name == v.Name && m.MountPath == v.HostPath.Path && m.SubPath == ""
		})
	})
}

// answers: the port that is probed, and scraped, is the one that the agent listens on,
// whatever its file of settings says.
func answers(t *testing.T, pod core.PodTemplateSpec) {
	t.Helper()
	c := pod.Spec.Containers[0]
	port := c.Ports[0]
	if listen := fmt.Sprintf("--metrics-listen=:%d", port.ContainerPort); !slices.Contains(c.Args, listen) {
		t.Errorf("%q: no %s", c.Args, listen)
	}
	if scraped := pod.Annotations["prometheus.io/port"]; scraped != fmt.Sprint(port.ContainerPort) {
		t.Errorf("port %q is scraped, and %d answers", scraped, port.ContainerPort)
	}
	for path, probe := range map[string]*core.Probe{"/readyz": c.ReadinessProbe, "/healthz": c.LivenessProbe} {
		if got := probe.HTTPGet; got.Path != path || got.Port.String() != port.Name {
			t.Errorf("%s is probed at %s %s", path, got.Port.String(), got.Path)
		}
	}
}

func build(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "grpc-tap")
	c := exec.Command("go", "build", "-o", program, "./cmd/grpc-tap")
	c.Dir, c.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if said, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return program
}

// starts has the program itself read its arguments and its file. It takes them if it
// comes as far as to say that there is no such node.
func starts(t *testing.T, program string, args []string, config string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	args = slices.Clone(args)
	i := slices.Index(args, "--config=/etc/grpc-tap/config.yaml")
	if i < 0 {
		t.Fatalf("%q: the settings are not read", args)
	}
	args[i] = "--config=" + file
	said, err := exec.Command(program, append(args, "--host-pid=1073741824")...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(said), "the node can't be reached from here") {
		t.Errorf("grpc-tap %q: %v: %s", args, err, said)
	}
}
