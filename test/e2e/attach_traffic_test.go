package e2e

import (
	"context"
	"errors"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// dial connects as the kubelet does, to whatever path leads to.
func dial(path string) (*grpc.ClientConn, error) {
	target, how := dialling(path)
	return grpc.NewClient(target, how, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
}

// runtimeTraffic is a runtime's clients, of every kind: they call without a
// pause, on connections that last and on ones that don't.
func runtimeTraffic(t testing.TB, path string) *load {
	t.Helper()
	l := newLoad(t)
	l.stays(path)
	l.stays(path)
	l.add(func(ctx context.Context) error {
		conn, err := dial(path)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = cri.NewRuntimeServiceClient(conn).Version(ctx, &cri.VersionRequest{})
		return err
	})
	return l
}

// stays adds a client with one connection: small calls, and the PLEG's lists.
func (l *load) stays(path string) {
	l.t.Helper()
	conn, err := dial(path)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	rt := cri.NewRuntimeServiceClient(conn)
	l.add(func(ctx context.Context) error {
		_, err := rt.Version(ctx, &cri.VersionRequest{})
		return err
	})
	l.add(func(ctx context.Context) error {
		if _, err := rt.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{}); err != nil {
			return err
		}
		_, err := rt.ListContainers(ctx, &cri.ListContainersRequest{})
		return err
	})
}

// driverTraffic is the kubelet's use of a CSI driver: dialled for each call.
func driverTraffic(t testing.TB, path string) *load {
	t.Helper()
	l := newLoad(t)
	for range 3 {
		l.add(func(ctx context.Context) error {
			conn, err := dial(path)
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = csi.NewNodeClient(conn).NodeGetCapabilities(ctx, &csi.NodeGetCapabilitiesRequest{})
			return err
		})
	}
	return l
}

// openStream is a stream of events that nobody ends.
type openStream struct {
	conn   *grpc.ClientConn
	cancel context.CancelFunc
	ended  chan error
}

// The streams that never end by themselves: the kubelet's, and one that every
// containerd has. Both take an empty request for all there is.
const (
	containerEvents  = cri.RuntimeService_GetContainerEvents_FullMethodName
	containerdEvents = "/containerd.services.events.v1.Events/Subscribe"
)

// watchEvents opens a stream on a connection of its own, and returns when the
// server has it.
func watchEvents(t testing.TB, path, method string) *openStream {
	t.Helper()
	conn, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	return watchOn(t, conn, method)
}

// watchOn opens a stream on a connection that is there.
func watchOn(t testing.TB, conn *grpc.ClientConn, method string) *openStream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &openStream{conn: conn, cancel: cancel, ended: make(chan error, 1)}
	t.Cleanup(s.hangUp)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err == nil {
		err = errors.Join(stream.SendMsg(&emptypb.Empty{}), stream.CloseSend())
	}
	// A call behind it on the same connection: the server has read its request.
	if err == nil {
		_, err = cri.NewRuntimeServiceClient(conn).Version(ctx, &cri.VersionRequest{})
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
				s.ended <- err
				return
			}
		}
	}()
	return s
}

// runs holds that the stream has not ended.
func (s *openStream) runs(t testing.TB, when string) {
	t.Helper()
	select {
	case err := <-s.ended:
		t.Errorf("the stream ended %s: %v", when, err)
	default:
	}
}

func (s *openStream) hangUp() {
	s.cancel()
	s.conn.Close()
}
