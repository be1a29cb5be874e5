package proxy

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
)

// refusing accepts one client after an error that nobody expects.
type refusing struct {
	errs   []error
	client *net.UnixConn
}

func (f *refusing) AcceptUnix() (*net.UnixConn, error) {
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		return nil, err
	}
	if c := f.client; c != nil {
		f.client = nil
		return c, nil
	}
	return nil, net.ErrClosed
}

func TestAcceptErrorsPass(t *testing.T) {
	dir := t.TempDir()
	up := listenUnix(t, filepath.Join(dir, "up"))
	defer up.Close()
	ours, theirs := socketPair(t)
	defer ours.Close()
	r := New(Options{Dial: func() (*net.UnixConn, error) { return Dial(filepath.Join(dir, "up")) }})
	r.accept(context.Background(), &refusing{errs: []error{unix.ENOBUFS, unix.EMFILE, unix.EPERM}, client: theirs})
	server, err := up.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	write(t, ours, "served")
	read(t, server, 6)
	_ = server.Close()
	r.Drain(context.Background(), 0)
}

// A write that fails though its reader is there has lost bytes: both ends see
// the connection fail, and neither waits for the other.
func TestAWriteThatFailsCutsTheConnection(t *testing.T) {
	client, ourClient := socketPair(t)
	server, ourServer := socketPair(t)
	defer client.Close()
	defer server.Close()
	c := &conn{Options: &New(Options{}).opts, client: ourClient, out: toClient{client: ourClient}}
	c.mirror.Store(mirror.Discard().Open(1, mirror.Peers{}))
	_ = ourClient.SetWriteDeadline(time.Now().Add(-time.Second)) // fails as ENOBUFS would
	var relaying sync.WaitGroup
	relaying.Go(func() { c.relay(ourServer) })
	write(t, server, "lost")
	readEnd(t, client)
	readEnd(t, server)
	relaying.Wait()
	if c.reason == "" {
		t.Error("nobody is told why")
	}
}

// While the upstream's backlog is full, clients wait as they would in
// connect(2), and are not refused.
func TestClientsWaitForAFullBacklog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "up")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "up")
	b := newBench(t, func(b *bench, cfg *Config) { cfg.Upstream = path }).serving()
	conns := make([]*net.UnixConn, 6)
	for i := range conns {
		conns[i] = b.dial()
	}
	l, err := net.FileListener(f)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for served := 0; served < len(conns); {
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if gone(s.(*net.UnixConn)) {
			_ = s.Close() // the relay's look
			continue
		}
		write(t, s, "hi")
		_ = s.Close()
		served++
	}
	for _, c := range conns {
		read(t, c, 2)
	}
}

// A relay whose upstream is itself, by another name, would dial itself without
// end.
func TestAnUpstreamThatIsTheRelayItself(t *testing.T) {
	b := newBench(t, func(b *bench, cfg *Config) {
		link := filepath.Join(filepath.Dir(b.listen), "link")
		if err := os.Symlink(".", link); err != nil {
			t.Fatal(err)
		}
		cfg.Upstream = filepath.Join(link, filepath.Base(b.listen))
	})
	if _, _, err := mirror.NewReader(b.tap); err != nil {
		t.Fatal(err)
	}
	if err := mirror.Ready(b.tap, mirror.Read); err != nil {
		t.Fatal(err)
	}
	<-b.ended
	if b.err == nil || !strings.Contains(b.err.Error(), "leads back to it") {
		t.Errorf("error %v", b.err)
	}
	if _, err := os.Lstat(b.listen); err == nil {
		t.Error("the path stays")
	}
}

func TestALockedDirectoryIsAnErrorAndNoHang(t *testing.T) {
	dir := t.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	_, err = listen(filepath.Join(dir, "s"), "/none")
	if err == nil || !strings.Contains(err.Error(), "lock directory "+dir) || !strings.Contains(err.Error(), "end that") {
		t.Errorf("error %v", err)
	}
}

// An upstream that comes later gives its mode then.
func TestModeIsTakenWhenTheUpstreamComes(t *testing.T) {
	b := newBench(t, func(b *bench, _ *Config) { _ = b.server.Close() }).serving()
	b.server = listenUnix(t, b.upstream)
	if err := os.Chmod(b.upstream, 0o666); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		fi, err := os.Stat(b.listen)
		if err == nil && fi.Mode().Perm() == 0o666 {
			return
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("mode %v, %v", fi.Mode(), err)
		}
	}
}
