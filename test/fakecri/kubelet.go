package fakecri

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A Kubelet dials, waits and retries as the kubelet does: two CRI connections that live as long as it does, and a CSI
// connection for each CSI call. It starts no goroutine of its own.
type Kubelet struct {
	Runtime cri.RuntimeServiceClient
	Image   cri.ImageServiceClient

	runtimeConn, imageConn *grpc.ClientConn
	config                 *config
}

// Deadlines and limits of the real one.
const (
	runtimeTimeout = 2 * time.Minute
	criReceive     = 16 << 20
	csiTimeout     = 2 * time.Minute
	csiReceive     = 4 << 20
	maxBackoff     = 2*time.Minute + 2*time.Second
)

// NewKubelet makes a kubelet for the runtime at a socket's path. It dials at the first call; a path that is never called
// may be empty.
func NewKubelet(criPath string, opts ...Option) (*Kubelet, error) {
	k := &Kubelet{config: newConfig("", opts)}
	dial := append([]grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 10 * time.Second,
		}),
		grpc.WithChainUnaryInterceptor(criDeadline),
	}, k.config.clientTracing()...)
	var err error
	if k.runtimeConn, err = k.dial(criPath, criReceive, dial...); err != nil {
		return nil, err
	}
	if k.imageConn, err = k.dial(criPath, criReceive, dial...); err != nil {
		return nil, errors.Join(err, k.runtimeConn.Close())
	}
	k.Runtime = cri.NewRuntimeServiceClient(k.runtimeConn)
	k.Image = cri.NewImageServiceClient(k.imageConn)
	return k, nil
}

// Close closes the CRI connections.
func (k *Kubelet) Close() error {
	return errors.Join(k.runtimeConn.Close(), k.imageConn.Close())
}

// Conn is the runtime connection, for calls that are not CRI's, such as [Say].
func (k *Kubelet) Conn() *grpc.ClientConn { return k.runtimeConn }

// DialCSI makes a new connection to a driver, which the caller closes. The kubelet does so for each call, a sidecar once.
func (k *Kubelet) DialCSI(driver string) (*grpc.ClientConn, error) {
	path, ok := k.config.drivers[driver]
	if !ok {
		return nil, fmt.Errorf("driver name %s not found in the list of registered CSI drivers", driver)
	}
	return k.dial(path, csiReceive)
}

func (k *Kubelet) dial(path string, receive int, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	base := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", addr)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(receive)),
	}
	return grpc.NewClient("passthrough:///"+path, append(append(base, opts...), k.config.dial...)...)
}

// criDeadline gives a unary CRI call the deadline it has in the kubelet. Streams, as there, get none.
func criDeadline(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	timeout := runtimeTimeout
	switch r := req.(type) {
	case *cri.PullImageRequest:
		return invoke(ctx, method, req, reply, cc, opts...)
	case *cri.RunPodSandboxRequest:
		timeout *= 2
	case *cri.StopContainerRequest:
		timeout += time.Duration(r.GetTimeout()) * time.Second
	case *cri.ExecSyncRequest:
		timeout += time.Duration(r.GetTimeout()) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return invoke(ctx, method, req, reply, cc, opts...)
}

// Poll is one round of what the kubelet asks all day: Version, Status, ListPodSandbox, ListContainers, ImageFsInfo. It asks
// all five whatever the answers, and returns all errors.
func (k *Kubelet) Poll(ctx context.Context) error {
	_, version := k.Runtime.Version(ctx, &cri.VersionRequest{Version: "0.1.0"})
	_, status := k.Runtime.Status(ctx, &cri.StatusRequest{})
	_, sandboxes := k.Runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	_, containers := k.Runtime.ListContainers(ctx, &cri.ListContainersRequest{})
	_, fs := k.Image.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{})
	return errors.Join(version, status, sandboxes, containers, fs)
}

// retry repeats step after the kubelet's back-off until it succeeds; when ctx ends, it returns that and the last failure.
func (k *Kubelet) retry(ctx context.Context, step func() error) error {
	for wait := k.config.backoff; ; wait = min(2*wait, maxBackoff) {
		err := step()
		if err == nil {
			return nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return errors.Join(ctx.Err(), err)
		}
	}
}

// Greet asks the runtime for its version, as the kubelet does first of all, and a driver for its name, as its registrar does.
func (k *Kubelet) Greet(ctx context.Context, driver string) error {
	if _, err := k.Runtime.Version(ctx, &cri.VersionRequest{}); err != nil {
		return fmt.Errorf("the runtime does not answer: %w", err)
	}
	conn, err := k.DialCSI(driver)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := csi.NewIdentityClient(conn).GetPluginInfo(ctx, &csi.GetPluginInfoRequest{}); err != nil {
		return fmt.Errorf("CSI driver %s does not answer: %w", driver, err)
	}
	return nil
}
