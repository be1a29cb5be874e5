package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// pod is a pod of the scenario, and the ids it was given.
type pod struct {
	name, namespace, uid string
	sandbox, container   string
}

const (
	containerName  = "main"
	unknownID      = "no-such-container"
	unknownHandler = "no-such-handler"
)

// live takes a pod through its life, as a kubelet does, with two calls that
// fail and an event stream open all the while.
func (c *client) live(r *lab.Runtime, name string) *pod {
	c.t.Helper()
	p, sandbox := newPod(r, name)
	do(c, c.Version, &cri.VersionRequest{})
	do(c, c.Status, &cri.StatusRequest{})
	events := c.events()

	p.sandbox = do(c, c.RunPodSandbox, &cri.RunPodSandboxRequest{Config: sandbox}).PodSandboxId
	c.run(p, sandbox)
	c.fail(sandbox)

	c.remove(p)
	events.end(c, p)
	return p
}

// newPod is a pod that is to be, and its sandbox.
func newPod(r *lab.Runtime, name string) (*pod, *cri.PodSandboxConfig) {
	p := &pod{name: name, namespace: "e2e", uid: "uid-of-" + name}
	return p, &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: p.name, Namespace: p.namespace, Uid: p.uid},
		Labels:       map[string]string{"io.kubernetes.pod.name": p.name, "io.kubernetes.pod.namespace": p.namespace, "io.kubernetes.pod.uid": p.uid},
		LogDirectory: r.Path("logs", name),
		Linux:        &cri.LinuxPodSandboxConfig{CgroupParent: r.CgroupParent},
	}
}

// run starts the pod's container and looks at it.
func (c *client) run(p *pod, sandbox *cri.PodSandboxConfig) {
	c.t.Helper()
	image := &cri.ImageSpec{Image: lab.BusyboxImage}
	if do(c, c.images.ImageStatus, &cri.ImageStatusRequest{Image: image}).Image == nil {
		c.t.Fatalf("containerd does not know %s", lab.BusyboxImage)
	}
	p.container = do(c, c.CreateContainer, &cri.CreateContainerRequest{
		PodSandboxId:  p.sandbox,
		SandboxConfig: sandbox,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: containerName},
			Image:    image,
			Command:  []string{"sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"},
			Labels:   map[string]string{"io.kubernetes.container.name": containerName},
			LogPath:  "main.log",
			Linux:    &cri.LinuxContainerConfig{},
		},
	}).ContainerId
	do(c, c.StartContainer, &cri.StartContainerRequest{ContainerId: p.container})
	st := do(c, c.ContainerStatus, &cri.ContainerStatusRequest{ContainerId: p.container}).Status
	c.note("%s %s", st.GetState(), st.GetMetadata().GetName())

	for _, script := range []string{"echo hi", "echo no >&2; exit 3"} {
		res := do(c, c.ExecSync, &cri.ExecSyncRequest{ContainerId: p.container, Cmd: []string{"sh", "-c", script}, Timeout: 60})
		c.note("stdout %q stderr %q exit %d", res.Stdout, res.Stderr, res.ExitCode)
	}
	list := do(c, c.ListContainers, &cri.ListContainersRequest{}).Containers
	c.note("%d containers", len(list))
}

// remove stops the pod and takes it away.
func (c *client) remove(p *pod) {
	c.t.Helper()
	do(c, c.StopContainer, &cri.StopContainerRequest{ContainerId: p.container})
	do(c, c.RemoveContainer, &cri.RemoveContainerRequest{ContainerId: p.container})
	do(c, c.StopPodSandbox, &cri.StopPodSandboxRequest{PodSandboxId: p.sandbox})
	do(c, c.RemovePodSandbox, &cri.RemovePodSandboxRequest{PodSandboxId: p.sandbox})
}

// fail makes two calls that containerd refuses.
func (c *client) fail(sandbox *cri.PodSandboxConfig) {
	c.t.Helper()
	_, err := try(c, c.StartContainer, &cri.StartContainerRequest{ContainerId: unknownID})
	if status.Code(err) != codes.NotFound {
		c.t.Errorf("StartContainer of an id that does not exist: %v", err)
	}
	_, err = try(c, c.RunPodSandbox, &cri.RunPodSandboxRequest{Config: sandbox2(sandbox), RuntimeHandler: unknownHandler})
	if err == nil || !strings.Contains(err.Error(), unknownHandler) {
		c.t.Errorf("RunPodSandbox with a runtime handler that does not exist: %v", err)
	}
}

// sandbox2 is another sandbox of the same pod: containerd reserves the name
// of the one that runs.
func sandbox2(s *cri.PodSandboxConfig) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: s.Metadata.Name, Namespace: s.Metadata.Namespace, Uid: s.Metadata.Uid, Attempt: 1},
		Labels:   s.Labels, LogDirectory: s.LogDirectory, Linux: s.Linux,
	}
}

// events is a GetContainerEvents stream that is open.
type events struct {
	cancel context.CancelFunc
	seen   chan *cri.ContainerEventResponse
	ended  chan error
}

func (c *client) events() *events {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(cancel)
	stream, err := c.GetContainerEvents(ctx, &cri.GetEventsRequest{})
	if err != nil {
		c.t.Fatalf("GetContainerEvents: %v", err)
	}
	e := &events{cancel: cancel, seen: make(chan *cri.ContainerEventResponse, 100), ended: make(chan error, 1)}
	go func() {
		for {
			event, err := stream.Recv()
			if err != nil {
				e.ended <- err
				return
			}
			e.seen <- event
		}
	}()
	return e
}

// end waits until the stream has told of the pod's end, and cancels it. A
// containerd before 1.7 does not know it: then it has ended by itself.
func (e *events) end(c *client, p *pod) {
	c.t.Helper()
	var told []string
	deadline := time.After(10 * time.Second)
	for {
		select {
		case event := <-e.seen:
			of := map[string]string{p.sandbox: "sandbox", p.container: "container"}[event.ContainerId]
			told = append(told, fmt.Sprint(of, " ", event.ContainerEventType))
			if of != "sandbox" || event.ContainerEventType != cri.ContainerEventType_CONTAINER_DELETED_EVENT {
				continue
			}
			e.cancel()
		case err := <-e.ended:
			c.keep("GetContainerEvents", nil, err)
			slices.Sort(told) // the order of two at once is containerd's affair
			c.note("%s", strings.Join(told, ", "))
			return
		case <-deadline:
			c.t.Fatalf("GetContainerEvents did not tell of the sandbox's end; it told: %q", told)
		}
	}
}

// requireEqual holds that two clients have seen the same.
func requireEqual(t *testing.T, direct, through []step) {
	t.Helper()
	for i := range max(len(direct), len(through)) {
		var was, is string
		if i < len(direct) {
			was = direct[i].String()
		}
		if i < len(through) {
			is = through[i].String()
		}
		if was != is {
			t.Errorf("call %d:\ndirectly %s\nthrough  %s", i, was, is)
		}
	}
}
