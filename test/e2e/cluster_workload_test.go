//go:build cluster

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// workload is a DaemonSet or a Deployment on a cluster.
type workload struct {
	c                     *cluster
	namespace, kind, name string
	container             string // its one
}

// kubectl is kubectl in its namespace.
func (w *workload) kubectl(args ...string) string {
	w.c.t.Helper()
	return w.c.api.Kubectl(append([]string{"--namespace", w.namespace}, args...)...)
}

// rolled waits until its pods are those that it asks for, and are ready.
func (w *workload) rolled() {
	w.c.t.Helper()
	w.kubectl("rollout", "status", w.kind+"/"+w.name, "--timeout=2m")
}

// restarted rolls out the same again.
func (w *workload) restarted() {
	w.c.t.Helper()
	w.kubectl("rollout", "restart", w.kind+"/"+w.name)
	w.rolled()
}

// page is a port of its one pod.
func (w *workload) page(port int) *page {
	w.c.t.Helper()
	var pods struct {
		Items []struct{ Status struct{ PodIP string } }
	}
	said := w.kubectl("get", "pods", "--selector=app.kubernetes.io/name="+w.name, "--output=json")
	if err := json.Unmarshal([]byte(said), &pods); err != nil || len(pods.Items) != 1 {
		w.c.t.Fatalf("the pod %s: %v, %s", w.name, err, said)
	}
	base := fmt.Sprintf("http://%s:%d", pods.Items[0].Status.PodIP, port)
	return &page{t: w.c.t, base: base, accept: openMetrics, client: w.c.r.Client()}
}

// log is what those of its pods that there are have said.
func (w *workload) log() string {
	return contents(filepath.Join(w.c.r.KubeletDir(), "logs", w.namespace+"_*", w.container, "*.log"))
}

// contents are those of the files that there are of this pattern.
func contents(pattern string) string {
	files, _ := filepath.Glob(pattern)
	var all strings.Builder
	for _, file := range files {
		b, _ := os.ReadFile(file) // or it has gone
		all.Write(b)
	}
	return all.String()
}
