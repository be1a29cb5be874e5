package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(asClient); path != "" {
		if err := beClient(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// bench is a relay in this process between a listener of the test's and the
// test's clients, with a tap that the test plays.
type bench struct {
	t        *testing.T
	listen   string
	upstream string
	server   *net.UnixListener
	tap      *net.UnixConn
	ended    chan struct{}
	err      error
	stop     context.CancelFunc

	mu     sync.Mutex
	events []mirror.Event
	news   *sync.Cond
	read   sync.WaitGroup
}

type option func(b *bench, cfg *Config)

// newBench starts a relay whose tap reads everything.
func newBench(t *testing.T, opts ...option) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "relay") // t.TempDir's names may be too long
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, listen: filepath.Join(dir, "tap.sock"), upstream: filepath.Join(dir, "up.sock"), ended: make(chan struct{})}
	b.news = sync.NewCond(&b.mu)
	b.server = listenUnix(t, b.upstream)
	cfg := Config{Listen: b.listen, Upstream: b.upstream}
	for _, o := range opts {
		o(b, &cfg)
	}
	ours, theirs := socketPair(t)
	b.tap = ours
	var ctx context.Context
	ctx, b.stop = context.WithCancel(context.Background())
	go func() { b.err = Run(ctx, cfg, theirs); close(b.ended) }()
	t.Cleanup(func() {
		b.stop()
		_ = ours.Close()
		_ = b.server.Close()
		<-b.ended
		b.read.Wait()
		_ = os.RemoveAll(dir)
	})
	return b
}

// serving makes the tap read, and waits for the path.
func (b *bench) serving() *bench {
	b.t.Helper()
	r, _, err := mirror.NewReader(b.tap)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := mirror.Ready(b.tap, mirror.Read); err != nil {
		b.t.Fatal(err)
	}
	b.read.Go(func() {
		for {
			e, err := r.Next()
			b.mu.Lock()
			if err != nil {
				b.events = append(b.events, mirror.Event{})
			} else {
				e.Data = bytes.Clone(e.Data)
				b.events = append(b.events, e)
			}
			b.news.Broadcast()
			b.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	b.await(func(e mirror.Event) bool { return e.Kind == mirror.KindServing })
	return b
}

// await waits for an event, past ones included.
func (b *bench) await(match func(mirror.Event) bool) mirror.Event {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := 0; ; i++ {
		for i >= len(b.events) {
			b.news.Wait()
		}
		if e := b.events[i]; e.Kind == 0 {
			b.t.Fatal("the mirror ended before the event came")
		} else if match(e) {
			return e
		}
	}
}

// mirrored is what the tap was told of one side of a connection.
func (b *bench) mirrored(conn uint64, d mirror.Dir) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	var p []byte
	for _, e := range b.events {
		if e.Kind == mirror.KindChunk && e.Conn == conn && e.Dir == d {
			p = append(p, e.Data...)
		}
	}
	return p
}

func (b *bench) dial() *net.UnixConn {
	b.t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: b.listen, Net: "unix"})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

// pair is a client and the server's end of its connection.
func (b *bench) pair() (client, server *net.UnixConn) {
	b.t.Helper()
	return b.dial(), b.accept()
}

// accept is the server's end of the client that dialled last.
func (b *bench) accept() *net.UnixConn {
	b.t.Helper()
	for {
		server, err := b.server.AcceptUnix()
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { _ = server.Close() })
		// The relay looked at its upstream once, and closed without a byte.
		if !gone(server) {
			return server
		}
	}
}

func listenUnix(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c net.Conn, n int) string {
	t.Helper()
	p := make([]byte, n)
	if _, err := io.ReadFull(c, p); err != nil {
		t.Fatal(err)
	}
	return string(p)
}

// readEnd waits for the end of file that a peer's close gives.
func readEnd(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if p, err := io.ReadAll(c); err != nil && !errors.Is(err, unix.ECONNRESET) || len(p) > 0 {
		t.Fatalf("expected an end of file, got %q and %v", p, err)
	}
}
