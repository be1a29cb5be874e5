package fakecri

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A node is what a runtime knows: its sandboxes, containers and images. Messages that came in or went out are never
// changed afterwards, so an answer may share them and be marshalled without the lock.
type node struct {
	name    string
	started time.Time
	ids     ids
	halted  <-chan struct{}

	mu         sync.Mutex
	sandboxes  table[sandbox]
	containers table[container]
	images     table[cri.Image]
	watchers   map[chan *cri.ContainerEventResponse]struct{}
}

type sandbox struct {
	id      string
	config  *cri.PodSandboxConfig
	handler string
	state   cri.PodSandboxState
	created int64
	ip      string
}

type container struct {
	id, sandboxID              string
	config                     *cri.ContainerConfig
	imageID                    string
	resources                  *cri.LinuxContainerResources
	state                      cri.ContainerState
	created, started, finished int64
	exitCode                   int32
}

// ids gives out ids like containerd's: 64 hex digits, the same ones for the same seed.
type ids struct {
	seed uint64

	mu sync.Mutex
	n  int
}

func (g *ids) next() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
	return hash(fmt.Sprintf("%d/%d", g.seed, g.n))
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// A table keeps its entries in the order they came.
type table[T any] struct {
	byKey map[string]*T
	order []*T
	puts  int // ever
}

func (t *table[T]) get(key string) (*T, bool) {
	v, ok := t.byKey[key]
	return v, ok
}

func (t *table[T]) put(key string, v *T) {
	if t.byKey == nil {
		t.byKey = map[string]*T{}
	}
	t.puts++
	t.byKey[key] = v
	t.order = append(t.order, v)
}

func (t *table[T]) drop(key string) {
	v := t.byKey[key]
	delete(t.byKey, key)
	t.order = slices.DeleteFunc(t.order, func(e *T) bool { return e == v })
}

// where returns the entries that keep wants; nil wants all.
func (t *table[T]) where(keep func(*T) bool) []*T {
	var out []*T
	for _, v := range t.order {
		if keep == nil || keep(v) {
			out = append(out, v)
		}
	}
	return out
}

// collect maps a slice.
func collect[T, M any](in []T, f func(T) M) []M {
	out := make([]M, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

// labelled says whether labels have all that a selector asks for.
func labelled(labels, selector map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

func (s *sandbox) item() *cri.PodSandbox {
	return &cri.PodSandbox{
		Id: s.id, Metadata: s.config.GetMetadata(), State: s.state, CreatedAt: s.created,
		Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations(), RuntimeHandler: s.handler,
	}
}

func (s *sandbox) status() *cri.PodSandboxStatus {
	return &cri.PodSandboxStatus{
		Id: s.id, Metadata: s.config.GetMetadata(), State: s.state, CreatedAt: s.created,
		Network: &cri.PodSandboxNetworkStatus{Ip: s.ip},
		Linux:   &cri.LinuxPodSandboxStatus{Namespaces: &cri.Namespace{Options: s.config.GetLinux().GetSecurityContext().GetNamespaceOptions()}},
		Labels:  s.config.GetLabels(), Annotations: s.config.GetAnnotations(), RuntimeHandler: s.handler,
	}
}

func (c *container) item() *cri.Container {
	return &cri.Container{
		Id: c.id, PodSandboxId: c.sandboxID, Metadata: c.config.GetMetadata(), Image: c.config.GetImage(),
		ImageRef: c.imageID, ImageId: c.imageID, State: c.state, CreatedAt: c.created,
		Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
	}
}

func (c *container) status() *cri.ContainerStatus {
	st := &cri.ContainerStatus{
		Id: c.id, Metadata: c.config.GetMetadata(), State: c.state, CreatedAt: c.created, StartedAt: c.started,
		FinishedAt: c.finished, ExitCode: c.exitCode, Image: c.config.GetImage(), ImageRef: c.imageID, ImageId: c.imageID,
		Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(), Mounts: c.config.GetMounts(),
		LogPath: c.config.GetLogPath(), Resources: &cri.ContainerResources{Linux: c.resources}, StopSignal: c.config.GetStopSignal(),
	}
	if c.state == cri.ContainerState_CONTAINER_EXITED {
		st.Reason = "Completed"
		if c.exitCode != 0 {
			st.Reason = "Error"
		}
	}
	return st
}

// info is a verbose status: as with containerd, it holds the process's whole environment.
func (c *container) info() map[string]string {
	b, err := json.Marshal(map[string]any{
		"sandboxID": c.sandboxID,
		"runtimeSpec": map[string]any{"process": map[string]any{
			"args": slices.Concat(c.config.GetCommand(), c.config.GetArgs()),
			"env":  collect(c.config.GetEnvs(), func(e *cri.KeyValue) string { return e.Key + "=" + string(e.Value) }),
		}},
	})
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return map[string]string{"info": string(b)}
}
