package fakecri

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Containers: created, running, exited, gone. Stopping or removing one that is not there is no error.

// containersOf returns a sandbox's containers. The lock is held.
func (n *node) containersOf(sandboxID string) []*container {
	return n.containers.where(func(c *container) bool { return c.sandboxID == sandboxID })
}

// getContainer is get with CRI's error. The lock is held.
func (n *node) getContainer(id string) (*container, error) {
	if c, ok := n.containers.get(id); ok {
		return c, nil
	}
	return nil, notFound("container", id)
}

// runningContainer is getContainer for what needs a process. The lock is held.
func (n *node) runningContainer(id string) (*container, error) {
	c, err := n.getContainer(id)
	if err == nil && c.state != cri.ContainerState_CONTAINER_RUNNING {
		return nil, status.Errorf(codes.Unknown, "container is in %s state", c.state)
	}
	return c, err
}

// change makes one step of a container's life and tells of it. The lock is held.
func (n *node) change(c *container, to cri.ContainerState, kind cri.ContainerEventType) {
	c.state = to
	sb, _ := n.sandboxes.get(c.sandboxID)
	n.emit(kind, c.id, sb)
}

func (n *node) createContainer(sb *sandbox, config *cri.ContainerConfig) *container {
	c := &container{
		id: n.ids.next(), sandboxID: sb.id, config: config, created: now(),
		imageID: imageID(config.GetImage().GetImage()), resources: config.GetLinux().GetResources(),
	}
	n.containers.put(c.id, c)
	n.change(c, cri.ContainerState_CONTAINER_CREATED, cri.ContainerEventType_CONTAINER_CREATED_EVENT)
	return c
}

func (n *node) startContainer(c *container) {
	c.started = now()
	n.change(c, cri.ContainerState_CONTAINER_RUNNING, cri.ContainerEventType_CONTAINER_STARTED_EVENT)
}

func (n *node) stopContainer(c *container) {
	if c.state == cri.ContainerState_CONTAINER_EXITED {
		return
	}
	c.finished = now()
	n.change(c, cri.ContainerState_CONTAINER_EXITED, cri.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

func (n *node) removeContainer(c *container) {
	n.stopContainer(c)
	n.containers.drop(c.id)
	n.change(c, c.state, cri.ContainerEventType_CONTAINER_DELETED_EVENT)
}

func (s *runtimeService) CreateContainer(_ context.Context, req *cri.CreateContainerRequest) (*cri.CreateContainerResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb, err := s.getSandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if req.GetConfig().GetMetadata() == nil {
		return nil, status.Error(codes.InvalidArgument, "container config must include metadata")
	}
	if sb.state != cri.PodSandboxState_SANDBOX_READY {
		return nil, status.Errorf(codes.Unknown, "failed to create containerd task: sandbox %q is not running", sb.id)
	}
	if _, ok := s.findImage(req.GetConfig().GetImage().GetImage()); !ok {
		return nil, status.Errorf(codes.NotFound, "failed to resolve image %q: not found", req.GetConfig().GetImage().GetImage())
	}
	return &cri.CreateContainerResponse{ContainerId: s.createContainer(sb, req.GetConfig()).id}, nil
}

func (s *runtimeService) StartContainer(_ context.Context, req *cri.StartContainerRequest) (*cri.StartContainerResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.getContainer(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if c.state != cri.ContainerState_CONTAINER_CREATED {
		return nil, status.Errorf(codes.Unknown, "failed to set starting state for container %q: container %q is in %s state", c.id, c.id, c.state)
	}
	s.startContainer(c)
	return &cri.StartContainerResponse{}, nil
}

func (s *runtimeService) StopContainer(_ context.Context, req *cri.StopContainerRequest) (*cri.StopContainerResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.containers.get(req.GetContainerId()); ok {
		s.stopContainer(c)
	}
	return &cri.StopContainerResponse{}, nil
}

func (s *runtimeService) RemoveContainer(_ context.Context, req *cri.RemoveContainerRequest) (*cri.RemoveContainerResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.containers.get(req.GetContainerId()); ok {
		s.removeContainer(c)
	}
	return &cri.RemoveContainerResponse{}, nil
}

func (n *node) listContainers(f *cri.ContainerFilter) []*cri.Container {
	n.mu.Lock()
	defer n.mu.Unlock()
	return collect(n.containers.where(func(c *container) bool {
		return (f.GetId() == "" || f.GetId() == c.id) &&
			(f.GetPodSandboxId() == "" || f.GetPodSandboxId() == c.sandboxID) &&
			(f.GetState() == nil || f.GetState().GetState() == c.state) &&
			labelled(c.config.GetLabels(), f.GetLabelSelector())
	}), (*container).item)
}

func (s *runtimeService) ListContainers(_ context.Context, req *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	return &cri.ListContainersResponse{Containers: s.listContainers(req.GetFilter())}, nil
}

func (s *runtimeService) StreamContainers(req *cri.StreamContainersRequest, stream grpc.ServerStreamingServer[cri.StreamContainersResponse]) error {
	return sendChunks(s.listContainers(req.GetFilter()), stream, func(chunk []*cri.Container) *cri.StreamContainersResponse {
		return &cri.StreamContainersResponse{Containers: chunk}
	})
}

func (s *runtimeService) ContainerStatus(_ context.Context, req *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.getContainer(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	resp := &cri.ContainerStatusResponse{Status: c.status()}
	if req.GetVerbose() {
		resp.Info = c.info()
	}
	return resp, nil
}

func (s *runtimeService) UpdateContainerResources(_ context.Context, req *cri.UpdateContainerResourcesRequest) (*cri.UpdateContainerResourcesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.getContainer(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	c.resources = req.GetLinux()
	return &cri.UpdateContainerResourcesResponse{}, nil
}

func (s *runtimeService) ReopenContainerLog(_ context.Context, req *cri.ReopenContainerLogRequest) (*cri.ReopenContainerLogResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.runningContainer(req.GetContainerId()); err != nil {
		return nil, err
	}
	return &cri.ReopenContainerLogResponse{}, nil
}

func (s *runtimeService) CheckpointContainer(_ context.Context, req *cri.CheckpointContainerRequest) (*cri.CheckpointContainerResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.runningContainer(req.GetContainerId()); err != nil {
		return nil, err
	}
	return &cri.CheckpointContainerResponse{}, nil
}

// ExecSync runs nothing: "false" exits with 1 and a word on stderr, any other command prints itself and exits with 0.
func (s *runtimeService) ExecSync(_ context.Context, req *cri.ExecSyncRequest) (*cri.ExecSyncResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.runningContainer(req.GetContainerId()); err != nil {
		return nil, err
	}
	switch cmd := req.GetCmd(); {
	case len(cmd) == 0:
		return nil, status.Error(codes.InvalidArgument, "cmd must not be empty")
	case cmd[0] == "false":
		return &cri.ExecSyncResponse{Stderr: []byte("false\n"), ExitCode: 1}, nil
	default:
		return &cri.ExecSyncResponse{Stdout: []byte(strings.Join(cmd, " ") + "\n")}, nil
	}
}

// streamingURL is where a client would stream to; its last part is a token that stands for the session.
func (n *node) streamingURL(kind string) string {
	return "http://127.0.0.1:41235/" + kind + "/" + n.ids.next()[:8]
}

func (s *runtimeService) Exec(_ context.Context, req *cri.ExecRequest) (*cri.ExecResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.runningContainer(req.GetContainerId()); err != nil {
		return nil, err
	}
	return &cri.ExecResponse{Url: s.streamingURL("exec")}, nil
}

func (s *runtimeService) Attach(_ context.Context, req *cri.AttachRequest) (*cri.AttachResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.runningContainer(req.GetContainerId()); err != nil {
		return nil, err
	}
	return &cri.AttachResponse{Url: s.streamingURL("attach")}, nil
}
