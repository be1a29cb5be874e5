package fakecri

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A Runtime is a fake container runtime: all of CRI v1, both services.
type Runtime struct {
	*Server
	node *node
}

// NewRuntime makes a runtime without pods or images, to be served by Serve, ListenAndServe or Start.
func NewRuntime(opts ...Option) *Runtime {
	c := newConfig("fakeruntime", opts)
	s := newServer(c)
	n := &node{name: c.name, started: time.Now(), ids: ids{seed: c.seed}, halted: s.stopping}
	n.watchers = map[chan *cri.ContainerEventResponse]struct{}{}
	cri.RegisterRuntimeServiceServer(s.grpc, &runtimeService{node: n})
	cri.RegisterImageServiceServer(s.grpc, &imageService{node: n})
	return &Runtime{Server: s, node: n}
}

// CRIMethods are the full names of the methods of CRI v1, "/runtime.v1.RuntimeService/Version" and so on.
func CRIMethods() []string {
	return methodsOf(cri.RuntimeService_ServiceDesc, cri.ImageService_ServiceDesc)
}

func methodsOf(services ...grpc.ServiceDesc) []string {
	var out []string
	for _, s := range services {
		for _, m := range s.Methods {
			out = append(out, "/"+s.ServiceName+"/"+m.MethodName)
		}
		for _, m := range s.Streams {
			out = append(out, "/"+s.ServiceName+"/"+m.StreamName)
		}
	}
	return out
}

// streamChunk is how many entries a message of a streaming list holds.
const streamChunk = 50

// sendChunks is the rule of all the streaming lists: the entries of the unary list, in order, a chunk a message.
func sendChunks[T, M any](entries []T, stream grpc.ServerStreamingServer[M], message func([]T) *M) error {
	for chunk := range slices.Chunk(entries, streamChunk) {
		if err := stream.Send(message(chunk)); err != nil {
			return err
		}
	}
	return nil
}

// runtimeService is CRI's RuntimeService: this file has what concerns the runtime itself, its neighbours the rest.
type runtimeService struct {
	cri.UnimplementedRuntimeServiceServer
	*node
}

func notFound(kind, id string) error {
	return status.Errorf(codes.NotFound, "an error occurred when try to find %s %q: not found", kind, id)
}

func (s *runtimeService) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{Version: "0.1.0", RuntimeName: s.name, RuntimeVersion: "v1.0.0", RuntimeApiVersion: "v1"}, nil
}

func (s *runtimeService) Status(_ context.Context, req *cri.StatusRequest) (*cri.StatusResponse, error) {
	resp := &cri.StatusResponse{
		Status: &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{
			{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Status: true},
		}},
		RuntimeHandlers: []*cri.RuntimeHandler{{Features: &cri.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: true}}, {Name: "runc"}},
		Features:        &cri.RuntimeFeatures{SupplementalGroupsPolicy: true},
	}
	if req.GetVerbose() {
		resp.Info = map[string]string{"config": `{"containerd":{"defaultRuntimeName":"runc"}}`, "golang": `"go1.26.8"`}
	}
	return resp, nil
}

func (s *runtimeService) UpdateRuntimeConfig(context.Context, *cri.UpdateRuntimeConfigRequest) (*cri.UpdateRuntimeConfigResponse, error) {
	return &cri.UpdateRuntimeConfigResponse{}, nil
}

func (s *runtimeService) RuntimeConfig(context.Context, *cri.RuntimeConfigRequest) (*cri.RuntimeConfigResponse, error) {
	return &cri.RuntimeConfigResponse{Linux: &cri.LinuxRuntimeConfiguration{CgroupDriver: cri.CgroupDriver_SYSTEMD}}, nil
}

// GetContainerEvents stays open until the client cancels or the server stops. It sends its headers once it watches: a
// client that has them misses no event from then on.
func (s *runtimeService) GetContainerEvents(_ *cri.GetEventsRequest, stream grpc.ServerStreamingServer[cri.ContainerEventResponse]) error {
	events := make(chan *cri.ContainerEventResponse, 1024)
	s.watch(events, true)
	defer s.watch(events, false)
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for {
		select {
		case e := <-events:
			if err := stream.Send(e); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-s.halted:
			return nil
		}
	}
}

func (n *node) watch(events chan *cri.ContainerEventResponse, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if on {
		n.watchers[events] = struct{}{}
	} else {
		delete(n.watchers, events)
	}
}

// emit tells the watchers of a change; one that is 1,024 events behind misses it. The lock is held.
func (n *node) emit(kind cri.ContainerEventType, id string, sb *sandbox) {
	if len(n.watchers) == 0 {
		return
	}
	e := &cri.ContainerEventResponse{ContainerId: id, ContainerEventType: kind, CreatedAt: now()}
	if sb != nil {
		e.PodSandboxStatus = sb.status()
		e.ContainersStatuses = collect(n.containersOf(sb.id), (*container).status)
	}
	for w := range n.watchers {
		select {
		case w <- e:
		default:
		}
	}
}

func now() int64 { return time.Now().UnixNano() }
