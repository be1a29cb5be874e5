//go:build cluster

package e2e

import (
	"bufio"
	"cmp"
	"encoding/json"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// named is how many of the calls about a pod say which.
type named struct {
	calls int
	made  map[string]bool // the ids of sandboxes and containers
	lacks []lack
}

// lack is a record that does not say all of its pod's name, namespace and UID.
type lack struct {
	kind string // service, method, outcome, and what is lacking
	id   string // of the sandbox or container, if the request has one
	line string // its beginning
}

func (n *named) share() float64 { return 1 - float64(len(n.lacks))/float64(max(n.calls, 1)) }

// countNamed reads a file of records, one at a time: after ten minutes they are many.
func countNamed(t *testing.T, file string) *named {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := &named{made: map[string]bool{}}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var r Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("not a record: %v: %.200s", err, lines.Text())
		}
		if aboutOnePod(t, r) {
			n.add(r, lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	n.dropStrangers()
	return n
}

// add counts a call about a pod.
func (n *named) add(r Record, line string) {
	n.calls++
	if r.Code == "OK" && (r.Method == "RunPodSandbox" || r.Method == "CreateContainer") {
		n.made[r.SandboxID], n.made[r.Container.ID] = true, true
	}
	lacking := ""
	for i, value := range []string{r.Pod.Name, r.Pod.Namespace, r.Pod.UID} {
		if value == "" {
			lacking += []string{" name", " namespace", " uid"}[i]
		}
	}
	if lacking == "" {
		return
	}
	of := path.Ext(r.Service)[1:]
	if strings.HasPrefix(r.Service, "csi.") {
		of = path.Base(path.Dir(r.Socket))
	}
	kind := of + "/" + r.Method + " " + r.Code + " lacks" + lacking
	n.lacks = append(n.lacks, lack{kind, cmp.Or(r.Container.ID, r.SandboxID), line[:min(len(line), 800)]})
}

// dropStrangers forgets the calls about containers that this runtime never had: the
// kubelet asks it for whatever it finds in the machine's cgroups, also what runs there
// beside the lab.
func (n *named) dropStrangers() {
	all := len(n.lacks)
	n.lacks = slices.DeleteFunc(n.lacks, func(l lack) bool {
		return l.id != "" && !n.made[l.id] && strings.Contains(l.kind, "NOT_FOUND")
	})
	n.calls -= all - len(n.lacks)
}

// request are the fields by which a request is about one pod, of CRI's and CSI's.
type request struct {
	ID            string // of containerd's own API
	ContainerID   string `json:"container_id"`
	PodSandboxID  string `json:"pod_sandbox_id"`
	Config        struct{ Metadata struct{ UID string } }
	SandboxConfig struct{ Metadata struct{ UID string } } `json:"sandbox_config"`
	Filter        struct {
		ID            string
		PodSandboxID  string         `json:"pod_sandbox_id"`
		LabelSelector map[string]any `json:"label_selector"`
	}
	TargetPath string `json:"target_path"`
	VolumePath string `json:"volume_path"`
}

// aboutOnePod says by a call's request alone whether it is about one pod, one of its
// sandboxes or containers, or a volume that is published to it.
func aboutOnePod(t *testing.T, r Record) bool {
	t.Helper()
	var q request
	if len(r.Request) == 0 {
		return false
	}
	if err := json.Unmarshal(r.Request, &q); err != nil {
		t.Fatalf("%s: another request than was thought: %v: %s", r.Method, err, r.Request)
	}
	_, ofPod := q.Filter.LabelSelector["io.kubernetes.pod.uid"]
	if ofPod || q.ID != "" && strings.HasPrefix(r.Service, "containerd.services.containers.") {
		return true
	}
	ids := q.ContainerID + q.PodSandboxID + q.Config.Metadata.UID + q.SandboxConfig.Metadata.UID + q.Filter.ID + q.Filter.PodSandboxID
	return ids != "" || strings.Contains(q.TargetPath, "/pods/") || strings.Contains(q.VolumePath, "/pods/")
}
