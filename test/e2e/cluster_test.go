//go:build cluster

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// The tests named TestCluster… have a real cluster of one node, with grpc-tap on the
// sockets of its runtime and of its CSI drivers from before the kubelet dials them.
// test/lab/cluster.sh builds it and runs them.

// cluster is such a node.
type cluster struct {
	*lab.Kubelet
	api   *lab.APIServer
	tap   *attached
	spans *Collector

	r *lab.Runtime
	t *testing.T
}

// The CSI drivers: the kubelet tells the one of the pod for which it publishes a
// volume, and not the other.
const (
	told   = "told.csi.grpc-tap.test"
	untold = "untold.csi.grpc-tap.test"
)

func newCluster(t *testing.T) *cluster {
	t.Helper()
	l := lab.New(t)
	registry := l.Registry()
	_, busybox, _ := strings.Cut(lab.BusyboxImage, "/")
	registry.Push(t, lab.Busybox(t, busybox))
	c := untapped(t, l, lab.Options{Mirror: registry.Address})
	paths := []string{c.r.Socket, c.driver(told, true), c.driver(untold, false)}
	args := append(paths[1:], "--otlp-endpoint", c.spans.Address, "--otlp-insecure")
	c.tap = attachTarget(t, paths[0], args, paths...)
	c.node(told, untold)
	return c
}

// untapped is a cluster without grpc-tap, and without its node yet.
func untapped(t *testing.T, l *lab.Lab, o lab.Options) *cluster {
	t.Helper()
	return &cluster{r: l.Containerd(o), spans: NewCollector(t), api: l.APIServer(), t: t}
}

// node starts the kubelet, and waits until it knows these drivers.
func (c *cluster) node(drivers ...string) {
	c.t.Helper()
	c.Kubelet = c.r.Node(c.api, c.r.Socket)
	for _, name := range drivers {
		c.Until(name+" is registered", time.Minute, func() bool {
			return strings.Contains(c.driverLog(name), "registered with the kubelet")
		})
	}
}

// driver starts a CSI driver of this name, which sees the kubelet's mounts, and
// returns the path of its socket.
func (c *cluster) driver(name string, podInfo bool) (socket string) {
	c.t.Helper()
	program, err := csiProgram()
	if err == nil {
		err = os.WriteFile(c.r.Path(name), program, 0o755)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	kubelet := filepath.Join(c.r.KubeletDir(), "root")
	socket = filepath.Join(kubelet, "plugins", name, "csi.sock")
	mkdir(c.t, filepath.Dir(socket))
	mkdir(c.t, filepath.Join(kubelet, "plugins_registry"))
	c.api.Driver(name, podInfo)
	c.r.Lab.Start(name, nil, c.r.Path(name), "--name", name, "--node-id", "lab", "--endpoint", socket, "--root", c.r.Path("volumes-of", name),
		"--registration", filepath.Join(kubelet, "plugins_registry", name+"-reg.sock")).Accepts(socket, 10*time.Second)
	return socket
}

func (c *cluster) driverLog(name string) string {
	c.t.Helper()
	b, err := os.ReadFile(c.r.Path(name + ".err"))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

// claim makes a claim of a volume that is called like it.
func (c *cluster) claim(name, driver string, attributes map[string]string) {
	c.t.Helper()
	mkdir(c.t, c.r.Path("volumes-of", driver, "volumes", name))
	c.api.Claim(name, driver, name, attributes)
}

// runs waits until pods run, by the API server's word.
func (c *cluster) runs(names ...string) {
	c.t.Helper()
	c.Until("pods run: "+strings.Join(names, " "), 2*time.Minute, func() bool {
		pods := c.api.Pods()
		return !slices.ContainsFunc(names, func(name string) bool { return !pods[name].Runs() })
	})
}

// gone waits until pods are gone, by the API server's word.
func (c *cluster) gone(names ...string) {
	c.t.Helper()
	c.Until("pods are gone: "+strings.Join(names, " "), 2*time.Minute, func() bool {
		pods := c.api.Pods()
		return !slices.ContainsFunc(names, func(name string) bool { _, is := pods[name]; return is })
	})
}
