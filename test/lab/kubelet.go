package lab

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Kubelet is a kubelet. It runs static pods (pods.go), and speaks to nobody but the
// runtime unless it is a cluster's (Runtime.Node). No other client may have pods on
// the same runtime: the kubelet ends those that it does not know.
type Kubelet struct {
	*Process

	lab  *Lab
	argv []string
	cri  cri.RuntimeServiceClient // straight at containerd
}

// node is what the kubelet takes for its node's name.
const node = "lab"

// kubeletConf keeps a kubelet to its lab, and from minding how full the machine
// is. Without cgroups of QoS classes, cgroupRoot is the parent of all pods.
const kubeletConf = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://ENDPOINT
staticPodPath: DIR/manifests
podLogsDir: DIR/logs
volumePluginDir: DIR/volume-plugins
cgroupRoot: CGROUP
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
evictionHard: {memory.available: 0%, nodefs.available: 0%, imagefs.available: 0%}
imageGCHighThresholdPercent: 100
enableServer: false
healthzPort: 0
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
makeIPTablesUtilChains: false
resolvConf: ""
`

// Kubelet starts a kubelet of no cluster on the socket at endpoint: containerd's own,
// or one that leads to it. It ends with the test, before what was started before it:
// a relay waits for its clients. more are lines for its configuration.
func (r *Runtime) Kubelet(endpoint string, more ...string) *Kubelet {
	r.Lab.t.Helper()
	program := os.Getenv("KUBELET")
	if program == "" {
		r.Lab.t.Fatal("KUBELET does not name the kubelet to run; run test/lab/kubelet.sh")
	}
	return r.kubelet(endpoint, kubeletConf+"registerNode: false\n"+strings.Join(more, "\n"), program)
}

// Node is Kubelet for one that runs the API server's pods too.
func (r *Runtime) Node(a *APIServer, endpoint string) *Kubelet {
	r.Lab.t.Helper()
	program := append(kube(r.Lab.t, "kubelet"), "--kubeconfig", a.Kubeconfig, "--node-ip", NodeAddress)
	return r.kubelet(endpoint, kubeletConf, program...)
}

func (r *Runtime) kubelet(endpoint, conf string, program ...string) *Kubelet {
	t := r.Lab.t
	t.Helper()
	k := &Kubelet{lab: r.Lab, cri: dialCRI(t, r.Socket)}
	dir := r.KubeletDir()
	conf = strings.NewReplacer("ENDPOINT", endpoint, "DIR", dir, "CGROUP", r.CgroupParent).Replace(conf)
	k.argv = append([]string{"unshare", "--mount", "--propagation=unchanged", "--", "sh", "-ec", k.cover(dir) + `exec "$@"`, "sh"}, program...)
	k.argv = append(k.argv,
		"--config", r.Write("kubelet/config.yaml", conf), "--root-dir", dir+"/root",
		"--hostname-override", node, "--v=2",
		// What cAdvisor in it dials beside, on a node the same path.
		"--containerd", r.Socket,
	)
	if err := os.MkdirAll(dir+"/manifests", 0o755); err != nil {
		t.Fatalf("lab: %v", err)
	}
	k.StartAgain()
	t.Cleanup(func() {
		k.Process.Stop(10 * time.Second)
		if t.Failed() {
			t.Logf("what the kubelet logged as wrong:\n%s", strings.Join(wrong.FindAllString(k.Log(), -1), "\n"))
		}
	})
	return k
}

// KubeletDir is the directory of the lab's kubelet, whose own is root in it. What the
// kubelet mounts there the runtime sees and the drivers of volumes, and what these
// mount the kubelet: it is shared by their mount namespaces.
func (l *Lab) KubeletDir() string {
	l.t.Helper()
	return l.Shared("kubelet")
}

// wrong are the errors and the warnings in a log of klog's, of which there are
// some with every kubelet.
var wrong = regexp.MustCompile(`(?m)^[EWF][0-9]{4} .*$`)

// StartAgain starts the kubelet once more after its process has ended.
func (k *Kubelet) StartAgain() {
	k.lab.t.Helper()
	k.Process = k.lab.Start("kubelet", nil, k.argv...)
}

// cover is a script that hides from a kubelet what it changes of its machine
// whatever its configuration says: device-plugins and pki in /var/lib/kubelet,
// /var/log/containers, and these kernel parameters, unless they are as it wants
// them. It is for a mount namespace, and the mounts are for that alone, also where
// the machine shares its own with whoever comes.
func (k *Kubelet) cover(dir string) (script string) {
	bind := func(what, over string) {
		script += "mount --make-private $(stat -c %m " + over + ")\nmount --bind " + what + " " + over + "\n"
	}
	for _, over := range []string{"/var/lib", "/var/log"} {
		if err := os.MkdirAll(dir+over, 0o755); err != nil {
			k.lab.t.Fatalf("lab: %v", err)
		}
		bind(dir+over, over)
	}
	for name, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		bind(k.lab.Write(filepath.Join("kubelet/sysctl", name), value), "/proc/sys/"+name)
	}
	return script
}

// Log is all that the kubelet has logged, also before it was started again.
func (k *Kubelet) Log() string {
	k.lab.t.Helper()
	files, err := filepath.Glob(k.lab.Path("kubelet.err*"))
	var log strings.Builder
	for _, file := range files {
		b, readErr := os.ReadFile(file)
		if readErr != nil {
			err = readErr
		}
		log.Write(b)
	}
	if err != nil {
		k.lab.t.Fatalf("lab: read the kubelet's log: %v", err)
	}
	return log.String()
}

func dialCRI(t testing.TB, socket string) cri.RuntimeServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	return cri.NewRuntimeServiceClient(conn)
}
