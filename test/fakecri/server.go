// Package fakecri is a node's cast for tests, demos and benches: a fake container runtime (CRI), a fake CSI driver and a fake
// kubelet that behaves on the wire as the real one does. All three are plain grpc-go, traced by otelgrpc when asked.
//
// The rules:
//
//   - Left alone, every method answers plausibly and keeps state: what was created is listed, what was removed is not found.
//   - [Script.On] changes what a method does; scripts know no method by name and work for all of them.
//   - Nothing here touches the node: no mounts, no processes, no files but the sockets.
//   - It imports nothing of internal/, so that it can be the oracle for what is there.
package fakecri

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // a client that compresses is answered compressed
	"google.golang.org/grpc/status"
)

// A Server is what [Runtime] and [Driver] share: a life on a Unix socket, and a [Script].
type Server struct {
	Script

	grpc     *grpc.Server
	stopping chan struct{}  // closed first of all when the server stops, gracefully or not
	halt     func()         // closes it, once
	serving  sync.WaitGroup // the goroutines of Start
}

func newServer(c *config) *Server {
	s := &Server{stopping: make(chan struct{})}
	s.halt = sync.OnceFunc(func() { close(s.stopping) })
	s.Script.stopping = s.stopping
	s.grpc = grpc.NewServer(append(c.serverOptions(),
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
		grpc.WaitForHandlers(true), // Stop leaves no goroutine behind
	)...)
	s.grpc.RegisterService(&echoDesc, echo{})
	return s
}

// Serve answers on lis until the server is stopped, then returns nil. It owns lis.
func (s *Server) Serve(lis net.Listener) error { return s.grpc.Serve(lis) }

// ListenAndServe listens on a Unix socket at path and serves it until the server is stopped. It treats the path as
// containerd does: a socket that lies there is unlinked, the new one has mode 0660, and when the server stops it unlinks
// whatever has that name by then.
func (s *Server) ListenAndServe(path string) error {
	lis, err := listen(path)
	if err != nil {
		return err
	}
	return s.Serve(lis)
}

// Start is ListenAndServe in the background: when it returns, clients can dial path. Stop and GracefulStop wait for its end.
func (s *Server) Start(path string) error {
	lis, err := listen(path)
	if err != nil {
		return err
	}
	s.serving.Go(func() { _ = s.Serve(lis) }) // fails only when the listener is closed behind our back
	return nil
}

// Stop cuts every connection, and returns when every call's handler has.
func (s *Server) Stop() {
	s.halt()
	s.grpc.Stop()
	s.serving.Wait()
}

// GracefulStop sends GOAWAY and returns when the running calls are done. Those without an end of their own are given one:
// event streams OK, calls that hang by script UNAVAILABLE.
func (s *Server) GracefulStop() {
	s.halt()
	s.grpc.GracefulStop()
	s.serving.Wait()
}

func listen(path string) (net.Listener, error) {
	switch fi, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	case fi.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("listen on %s: there is something that is not a socket", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", path, err)
		}
	}
	lis, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		lis.Close()
		return nil, err
	}
	return lis, nil
}

var errStopping = status.Error(codes.Unavailable, "fakecri: the server is stopping")
