package tap

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec"
	"github.com/grpc-tap/grpc-tap/internal/identity"
	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/proxy"
	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spine is a fake runtime behind a real relay and a tap, all in this process.
type spine struct {
	t       *testing.T
	runtime *fakecri.Runtime
	kubelet *fakecri.Kubelet
	path    string
	tap     *Tap
	log     *syncBuffer
	end     func() // detaches, and waits for the tap
	mu      sync.Mutex
	records []*call.Record
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// Records implements Sink.
func (s *spine) Records(all []*call.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, all...)
}

func newSpine(t *testing.T, decoder func(func(*codec.Call)) Decoder) *spine {
	t.Helper()
	return newSpineWith(t, Config{NewDecoder: decoder})
}

func newSpineWith(t *testing.T, cfg Config) *spine {
	t.Helper()
	dir, err := os.MkdirTemp("", "spine")
	must(t, err)
	s := &spine{t: t, runtime: fakecri.NewRuntime(), path: filepath.Join(dir, "tap.sock"), log: &syncBuffer{}}
	up := filepath.Join(dir, "up.sock")
	must(t, s.runtime.Start(up))

	ours, theirs := pair(t)
	ended := make(chan error, 1)
	go func() { ended <- proxy.Run(context.Background(), proxy.Config{Listen: s.path, Upstream: up}, theirs) }()
	serving := make(chan struct{})
	queue := NewQueue("test", s, QueueSize)
	cfg.Out = NewOut(identity.New(), nil, queue)
	cfg.Log = slog.New(slog.NewTextHandler(s.log, nil))
	cfg.Serving = func(mirror.Hello, string) { close(serving) }
	s.tap = New(cfg)
	ahead := mirror.NewAhead(ours, mirror.DefaultAhead)
	read := make(chan error, 1)
	go func() {
		r, h, err := mirror.NewReader(ahead)
		if err == nil {
			err = mirror.Ready(ours, mirror.Read)
		}
		if err == nil {
			err = s.tap.Run(r, h)
		}
		read <- err
	}()
	<-serving
	s.kubelet, err = fakecri.NewKubelet(s.path)
	must(t, err)
	s.end = sync.OnceFunc(func() {
		_ = s.kubelet.Close()
		_ = ours.CloseWrite()
		if err := <-read; err != nil {
			t.Errorf("tap: %v", err)
		}
		_ = ours.Close()
		ahead.Close()
		cfg.Out.Close()
		queue.Close(context.Background())
		if err := <-ended; err != nil {
			t.Errorf("relay: %v", err)
		}
		s.runtime.Stop()
		_ = os.RemoveAll(dir)
	})
	t.Cleanup(s.end)
	return s
}

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	ends := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		must(t, err)
		_ = f.Close()
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *spine) version() {
	s.t.Helper()
	if _, err := s.kubelet.Runtime.Version(context.Background(), &runtime.VersionRequest{}); err != nil {
		s.t.Fatalf("a call failed: %v", err)
	}
}
