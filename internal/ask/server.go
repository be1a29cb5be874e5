package ask

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
)

// server is one that may be asked.
type server struct {
	socket   string // the path that clients dial
	upstream string // its own
	kind     kind
}

type kind int

const (
	unknown kind = iota
	runtime
	driver
	neither
)

const (
	runtimeService  = "runtime.v1.RuntimeService"
	identityService = "csi.v1.Identity"
	// patience is how long an answer may take.
	patience = 2 * time.Second
	// maxList is what the kubelet takes of a list, in bytes.
	maxList = 16 << 20
)

// greet asks a server for its name, and learns from that what it is.
func (a *Asker) greet(ctx context.Context, s *server) error {
	for _, q := range []struct {
		kind            kind
		service, method string
	}{
		{runtime, runtimeService, "Version"},
		{driver, identityService, "GetPluginInfo"},
	} {
		answer, err := a.ask(ctx, s, q.service, q.method)
		switch status.Code(err) {
		case codes.OK:
			s.kind = q.kind
			r := &call.Record{State: call.Done, Code: "OK", Service: q.service, Method: q.method, Socket: s.socket}
			a.pods.Complete(r, (*schema.APIs)(nil).Lookup(q.service, q.method).Facts(nil, answer))
			return nil
		case codes.Unimplemented:
		default:
			return err
		}
	}
	s.kind = neither
	return nil
}

// learnList asks for a list, and learns from it as from one that passes.
func (a *Asker) learnList(ctx context.Context, s *server, method string) error {
	answer, err := a.ask(ctx, s, runtimeService, method)
	if err != nil {
		return err
	}
	l := (*schema.APIs)(nil).Lookup(runtimeService, method).Listing(func(e *schema.Listed) { a.learn(e, schema.Facts{}) })
	l.Write(answer)
	return nil
}

// ask makes one call with an empty request.
func (a *Asker) ask(ctx context.Context, s *server, service, method string) (answer []byte, err error) {
	path := s.upstream
	if a.Own != nil {
		path = a.Own(path)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cc, err := grpc.NewClient("passthrough:///socket",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, path) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"), // as the kubelet has it
		grpc.WithUserAgent("grpc-tap"),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxList), grpc.ForceCodec(asBytes{})))
	if err != nil {
		return nil, err
	}
	defer cc.Close()
	err = cc.Invoke(ctx, "/"+service+"/"+method, []byte{}, &answer)
	return answer, err
}

// dial goes by a descriptor: a path may be longer than an address.
func dial(ctx context.Context, path string) (net.Conn, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	return new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
}

// asBytes leaves messages as they are on the wire.
type asBytes struct{}

func (asBytes) Name() string                  { return "proto" }
func (asBytes) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (asBytes) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), b...)
	return nil
}
