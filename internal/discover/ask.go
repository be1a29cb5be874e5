package discover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ask fills in what the socket speaks, by one connection.
func (c Config) ask(ctx context.Context, f *candidate) {
	if ttrpc(f.Path) {
		f.Speaks = "ttrpc"
		return
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", f.file.handle()) // succeeds or fails at once
	if err != nil {
		f.unanswered(err)
		return
	}
	f.creator = creator(conn)
	asking, cancel := context.WithTimeout(ctx, c.patience())
	defer cancel()
	cc, err := client(conn)
	if err != nil { // never: the target is fixed
		_ = conn.Close()
		f.note(err)
		return
	}
	defer conn.Close() // after cc, which may not have taken it
	defer cc.Close()
	switch err := greet(asking, cc); {
	case errors.Is(err, context.DeadlineExceeded):
		f.Speaks = "unknown"
		f.note(tooLong(c.patience()))
	case err != nil:
		f.Speaks = "unknown"
		f.note(err)
	default:
		f.Speaks = "gRPC"
		f.introduce(asking, cc)
	}
}

// ttrpc says whether the path is one that is known for ttrpc: containerd's
// second socket, NRI's, the shims'. It tells peers by their uid, and takes a
// connection for a plugin.
func ttrpc(path string) bool {
	dir, name := filepath.Split(path)
	return strings.HasSuffix(name, ".ttrpc") || name == "nri.sock" || strings.HasSuffix(dir, "/containerd/s/")
}

func (f *candidate) unanswered(err error) {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		f.Dead = true
	case errors.Is(err, unix.EAGAIN):
		f.note(errors.New("somebody listens, but does not accept: its queue of connections is full"))
	case errors.Is(err, unix.EPROTOTYPE):
		f.note(errors.New("it is no stream socket"))
	case errors.Is(err, unix.EACCES):
		f.note(fmt.Errorf("dial it: %w", unix.EACCES))
	default: // not with the error's own path, which is a descriptor's
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		f.note(fmt.Errorf("dial it: %w", err))
	}
}

// creator is who made the listening socket: SO_PEERCRED of a connection holds
// what was so when listen(2) was called. 0: not known, as across pid namespaces.
func creator(conn net.Conn) (pid int) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// client is a gRPC client of a connection, which it never replaces.
func client(conn net.Conn) (*grpc.ClientConn, error) {
	var used atomic.Bool
	return grpc.NewClient("passthrough:///socket",
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, errors.New("the one connection is used up")
			}
			return conn, nil
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"), // as the kubelet has it; grpc-go's servers refuse a path
		grpc.WithUserAgent("grpc-tap-discover"),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithNoProxy(),
		// Names are short; whoever listens here is not known yet.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<10)))
}

// greet sends the HTTP/2 preface and an empty SETTINGS, and waits for the
// server's SETTINGS: that is what grpc-go calls ready.
func greet(ctx context.Context, cc *grpc.ClientConn) error {
	cc.Connect()
	for begun := false; ; {
		state := cc.GetState()
		switch {
		case state == connectivity.Ready:
			return nil
		case state == connectivity.Connecting:
			begun = true
		case state == connectivity.Idle && begun:
			return nil // it was ready, and hung up at once
		case state == connectivity.TransientFailure:
			return errSilent
		}
		if !cc.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
}

// introduce asks who is there, where that may be asked.
func (f *candidate) introduce(ctx context.Context, cc *grpc.ClientConn) {
	var api string
	var err error
	switch f.Kind {
	case CRI:
		api, err = "runtime.v1", f.askCRI(ctx, cc)
	case CSI:
		api, err = "csi.v1", f.askCSI(ctx, cc)
	case Other:
		if api, err = "runtime.v1", f.askCRI(ctx, cc); status.Code(err) == codes.Unimplemented {
			api, err = "csi.v1", f.askCSI(ctx, cc)
		}
	}
	switch status.Code(err) {
	case codes.OK:
	case codes.Unimplemented:
		f.Kind = Other
	default:
		s := status.Convert(err)
		f.note(fmt.Errorf("asked for its name (%s), it answered %v: %s", api, s.Code(), s.Message()))
	}
}

func (f *candidate) askCRI(ctx context.Context, cc *grpc.ClientConn) error {
	v, err := cri.NewRuntimeServiceClient(cc).Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return err
	}
	f.Kind, f.Speaks, f.Name, f.Version = CRI, "CRI v1", v.GetRuntimeName(), v.GetRuntimeVersion()
	return nil
}

func (f *candidate) askCSI(ctx context.Context, cc *grpc.ClientConn) error {
	v, err := csi.NewIdentityClient(cc).GetPluginInfo(ctx, &csi.GetPluginInfoRequest{})
	if err != nil {
		return err
	}
	f.Kind, f.Speaks, f.Name, f.Version = CSI, "CSI", v.GetName(), v.GetVendorVersion()
	return nil
}
