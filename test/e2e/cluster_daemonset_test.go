//go:build cluster

package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/internal/takeover"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// daemonSet is deploy/daemonset on a cluster, by an overlay as a user would write one.
type daemonSet struct {
	workload
	overlay string // its directory
	hostDir string

	paths  []string // containerd's socket, and a CSI driver's
	was    []place  // how these were before
	relays []int    // on them, of the first version
	loads  []*load
}

const (
	manifests  = "../../deploy/daemonset"
	agentImage = "ghcr.io/grpc-tap/grpc-tap" // as the manifests call it
)

// agentImages are grpc-tap in two versions: what is behind an executable's end is
// nobody's.
func agentImages(t *testing.T) []lab.Image {
	t.Helper()
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	image := func(tag string, program []byte) lab.Image {
		return lab.Image{
			Name: agentImage + ":" + tag, Entrypoint: []string{"/grpc-tap"},
			Files: []lab.File{{Path: "/grpc-tap", Data: program}},
		}
	}
	return []lab.Image{image("one", program), image("two", append(slices.Clone(program), "newer"...))}
}

// daemonSet writes an overlay that says where all is in the lab, and nothing else.
func (c *cluster) daemonSet(paths []string) *daemonSet {
	c.t.Helper()
	d := &daemonSet{
		workload: workload{c, "grpc-tap", "daemonset", "grpc-tap", "agent"},
		overlay:  c.r.Path("overlay"), hostDir: c.r.Path("host"), paths: paths,
	}
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.t.Logf("the agent's log:\n%s\nthe relays':\n%s", d.log(), contents(c.r.Path("run/grpc-tap/log/*")))
		}
	})
	run, kubelet := c.r.Path("run"), filepath.Join(c.r.KubeletDir(), "root")
	c.r.Write("overlay/config.yaml", strings.Join([]string{
		"otlpEndpoint: " + collectorName + ":4317", "otlpInsecure: true", "samplingRatePerMillion: 10000", "liveAttach: true",
		"runtime: " + c.r.Socket, "kubeletDir: " + kubelet, "stateDir: " + run + "/grpc-tap", "hostDir: " + d.hostDir,
		"orphanTimeout: 20s", // longer than a roll-out takes on a busy machine
		// Not every machine's root may look at its first process.
		fmt.Sprintf("hostPid: %d", c.r.PID()),
	}, "\n"))
	c.r.Write("overlay/kustomization.yaml", strings.NewReplacer("BASE", c.relative(d.overlay, manifests), "IMAGE", agentImage,
		"NODE", lab.NodeAddress, "COLLECTOR", collectorName, "RUN", run, "KUBELET", kubelet).Replace(ofLab))
	return d
}

const ofLab = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [BASE]
images:
  - {name: IMAGE, newTag: one}
configMapGenerator:
  - {name: grpc-tap, namespace: grpc-tap, behavior: replace, files: [config.yaml]}
generatorOptions: {disableNameSuffixHash: true}
patches:
  - target: {kind: DaemonSet, name: grpc-tap}
    patch: |-
      - {op: add, path: /spec/template/spec/hostAliases, value: [{ip: NODE, hostnames: [COLLECTOR]}]}
      - {op: replace, path: /spec/template/spec/volumes/0/hostPath/path, value: RUN}
      - {op: replace, path: /spec/template/spec/containers/0/volumeMounts/0/mountPath, value: RUN}
      - {op: replace, path: /spec/template/spec/volumes/1/hostPath/path, value: KUBELET}
      - {op: replace, path: /spec/template/spec/containers/0/volumeMounts/1/mountPath, value: KUBELET}
`

// relative is the path of a directory of the checkout as an overlay is to name it.
func (c *cluster) relative(overlay, dir string) string {
	c.t.Helper()
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.Rel(overlay, dir)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return dir
}

// validate has the API server look at the manifests as they are delivered, and at each
// overlay: in a dry run it takes no object of a namespace that is not there yet.
func (c *cluster) validate() {
	c.t.Helper()
	c.api.Kubectl("apply", "-f", manifests+"/base/namespace.yaml")
	overlays, err := filepath.Glob(manifests + "/overlays/*")
	if err != nil || len(overlays) == 0 {
		c.t.Fatalf("no overlays in %s: %v", manifests, err)
	}
	for _, dir := range append(overlays, manifests) {
		c.api.Kubectl("apply", "--dry-run=server", "--validate=strict", "-k", dir)
	}
}

// fine holds that no call of the load has failed, and that it goes on.
func (d *daemonSet) fine() {
	d.c.t.Helper()
	for _, l := range d.loads {
		l.more(20)
		if l.fine(); d.c.t.Failed() {
			d.c.t.FailNow()
		}
	}
}

// says waits until the agents have said all of this.
func (d *daemonSet) says(all ...string) {
	d.c.t.Helper()
	d.c.Until(fmt.Sprintf("the agent says %q", all), 2*eventuallyTime, func() bool {
		log := d.log()
		return !slices.ContainsFunc(all, func(text string) bool { return !strings.Contains(log, text) })
	})
}

// relay is the process that has a path, which is to run on the node itself.
func (d *daemonSet) relay(path string) (pid int) {
	t := d.c.t
	t.Helper()
	d.c.Until("a relay stands on "+path, 2*eventuallyTime, func() bool {
		st, err := takeover.Read(path)
		pid = st.By
		return err == nil && st.Taken && pid > 1
	})
	onNode(t, pid, d.c.r.PID(), d.hostDir)
	if cgroup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)); strings.Contains(string(cgroup), d.c.r.CgroupParent) {
		t.Errorf("the relay is in a pod's cgroup:\n%s", cgroup)
	}
	return pid
}

// processes are those on the node whose executable the agent has put there.
func (d *daemonSet) processes() []int { return running(d.hostDir) }

// filesBelow are the files below a directory, and whatever else is no directory.
func filesBelow(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
