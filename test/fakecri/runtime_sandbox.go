package fakecri

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Sandboxes. As with containerd, a name is reserved until its sandbox is removed, and stopping or removing one that is
// not there is no error.

func sandboxName(m *cri.PodSandboxMetadata) string {
	return fmt.Sprintf("%s_%s_%s_%d", m.GetName(), m.GetNamespace(), m.GetUid(), m.GetAttempt())
}

// runSandbox makes a running sandbox. The lock is held.
func (n *node) runSandbox(config *cri.PodSandboxConfig, handler string) (*sandbox, error) {
	if config.GetMetadata() == nil {
		return nil, status.Error(codes.InvalidArgument, "sandbox config must include metadata")
	}
	name := sandboxName(config.GetMetadata())
	for _, sb := range n.sandboxes.order {
		if sandboxName(sb.config.GetMetadata()) == name {
			return nil, status.Errorf(codes.Unknown, "failed to reserve sandbox name %q: name %q is reserved for %q", name, name, sb.id)
		}
	}
	sb := &sandbox{id: n.ids.next(), config: config, handler: handler, created: now()}
	n.sandboxes.put(sb.id, sb)
	sb.ip = fmt.Sprintf("10.88.%d.%d", n.sandboxes.puts>>8&0xff, n.sandboxes.puts&0xff)
	n.emit(cri.ContainerEventType_CONTAINER_CREATED_EVENT, sb.id, sb)
	n.emit(cri.ContainerEventType_CONTAINER_STARTED_EVENT, sb.id, sb)
	return sb, nil
}

func (s *runtimeService) RunPodSandbox(_ context.Context, req *cri.RunPodSandboxRequest) (*cri.RunPodSandboxResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb, err := s.runSandbox(req.GetConfig(), req.GetRuntimeHandler())
	if err != nil {
		return nil, err
	}
	return &cri.RunPodSandboxResponse{PodSandboxId: sb.id}, nil
}

// stopSandbox stops a sandbox and its containers. The lock is held.
func (n *node) stopSandbox(sb *sandbox) {
	for _, c := range n.containersOf(sb.id) {
		n.stopContainer(c)
	}
	if sb.state == cri.PodSandboxState_SANDBOX_READY {
		sb.state = cri.PodSandboxState_SANDBOX_NOTREADY
		n.emit(cri.ContainerEventType_CONTAINER_STOPPED_EVENT, sb.id, sb)
	}
}

func (s *runtimeService) StopPodSandbox(_ context.Context, req *cri.StopPodSandboxRequest) (*cri.StopPodSandboxResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sb, ok := s.sandboxes.get(req.GetPodSandboxId()); ok {
		s.stopSandbox(sb)
	}
	return &cri.StopPodSandboxResponse{}, nil
}

func (s *runtimeService) RemovePodSandbox(_ context.Context, req *cri.RemovePodSandboxRequest) (*cri.RemovePodSandboxResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sb, ok := s.sandboxes.get(req.GetPodSandboxId()); ok {
		s.stopSandbox(sb)
		for _, c := range s.containersOf(sb.id) {
			s.removeContainer(c)
		}
		s.sandboxes.drop(sb.id)
		s.emit(cri.ContainerEventType_CONTAINER_DELETED_EVENT, sb.id, sb)
	}
	return &cri.RemovePodSandboxResponse{}, nil
}

// getSandbox is get with CRI's error. The lock is held.
func (n *node) getSandbox(id string) (*sandbox, error) {
	if sb, ok := n.sandboxes.get(id); ok {
		return sb, nil
	}
	return nil, notFound("sandbox", id)
}

func (s *runtimeService) PodSandboxStatus(_ context.Context, req *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb, err := s.getSandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	resp := &cri.PodSandboxStatusResponse{
		Status: sb.status(), ContainersStatuses: collect(s.containersOf(sb.id), (*container).status), Timestamp: now(),
	}
	if req.GetVerbose() {
		resp.Info = map[string]string{"info": `{"pid":4242,"processStatus":"running"}`}
	}
	return resp, nil
}

func (n *node) listSandboxes(f *cri.PodSandboxFilter) []*cri.PodSandbox {
	n.mu.Lock()
	defer n.mu.Unlock()
	return collect(n.sandboxes.where(func(sb *sandbox) bool {
		return (f.GetId() == "" || f.GetId() == sb.id) &&
			(f.GetState() == nil || f.GetState().GetState() == sb.state) &&
			labelled(sb.config.GetLabels(), f.GetLabelSelector())
	}), (*sandbox).item)
}

func (s *runtimeService) ListPodSandbox(_ context.Context, req *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	return &cri.ListPodSandboxResponse{Items: s.listSandboxes(req.GetFilter())}, nil
}

func (s *runtimeService) StreamPodSandboxes(req *cri.StreamPodSandboxesRequest, stream grpc.ServerStreamingServer[cri.StreamPodSandboxesResponse]) error {
	return sendChunks(s.listSandboxes(req.GetFilter()), stream, func(chunk []*cri.PodSandbox) *cri.StreamPodSandboxesResponse {
		return &cri.StreamPodSandboxesResponse{PodSandboxes: chunk}
	})
}

func (s *runtimeService) PortForward(_ context.Context, req *cri.PortForwardRequest) (*cri.PortForwardResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.getSandbox(req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	return &cri.PortForwardResponse{Url: s.streamingURL("portforward")}, nil
}

func (s *runtimeService) UpdatePodSandboxResources(_ context.Context, req *cri.UpdatePodSandboxResourcesRequest) (*cri.UpdatePodSandboxResourcesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.getSandbox(req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	return &cri.UpdatePodSandboxResourcesResponse{}, nil
}

func (s *runtimeService) CheckpointPod(_ context.Context, req *cri.CheckpointPodRequest) (*cri.CheckpointPodResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.getSandbox(req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	return &cri.CheckpointPodResponse{}, nil
}

// RestorePod makes the sandbox and the containers it is given, running.
func (s *runtimeService) RestorePod(_ context.Context, req *cri.RestorePodRequest) (*cri.RestorePodResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb, err := s.runSandbox(req.GetConfig(), req.GetRuntimeHandler())
	if err != nil {
		return nil, err
	}
	resp := &cri.RestorePodResponse{PodSandboxId: sb.id}
	for _, config := range req.GetContainerConfigs() {
		c := s.createContainer(sb, config)
		s.startContainer(c)
		resp.RestoredContainers = append(resp.RestoredContainers, &cri.RestoredContainer{Name: config.GetMetadata().GetName(), ContainerId: c.id})
	}
	return resp, nil
}
