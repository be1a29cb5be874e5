package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
)

// Bytes in are bytes out, in both directions at once, whatever the chunks, and
// the mirror holds the same.
func TestBytesPassUnchanged(t *testing.T) {
	b := newBench(t, func(_ *bench, cfg *Config) { cfg.Queue = 64 << 20 }).serving()
	for i := range 10 {
		client, server := b.pair()
		var work sync.WaitGroup
		sums := make([][sha256.Size]byte, 4)
		for j, end := range []*net.UnixConn{client, server} {
			r := rand.New(rand.NewPCG(uint64(i), uint64(j)))
			work.Go(func() { sums[j] = send(t, end, r) })
			work.Go(func() { sums[3-j] = receive(t, end) })
		}
		work.Wait()
		if sums[0] != sums[2] || sums[1] != sums[3] {
			t.Fatalf("connection %d: bytes were changed", i)
		}
		_ = client.Close()
		_ = server.Close()
		id := uint64(i + 1)
		e := b.await(func(e mirror.Event) bool { return e.Kind == mirror.KindClose && e.Conn == id })
		if e.Totals.Dropped != 0 || sha256.Sum256(b.mirrored(id, mirror.FromClient)) != sums[0] || sha256.Sum256(b.mirrored(id, mirror.FromServer)) != sums[1] {
			t.Fatalf("connection %d: the mirror differs, %+v", i, e.Totals)
		}
	}
}

// send writes random bytes in random chunks, and ends its side.
func send(t *testing.T, c *net.UnixConn, r *rand.Rand) [sha256.Size]byte {
	h := sha256.New()
	for range r.IntN(60) {
		p := make([]byte, 1+r.IntN(100_000))
		if r.IntN(2) == 0 {
			p = p[:1+r.IntN(min(len(p), 50))]
		}
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		h.Write(p)
		if _, err := c.Write(p); err != nil {
			t.Error(err)
		}
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func receive(t *testing.T, c *net.UnixConn) [sha256.Size]byte {
	h := sha256.New()
	if _, err := io.Copy(h, c); err != nil {
		t.Error(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func TestHalfCloseKeepsTheOtherDirection(t *testing.T) {
	b := newBench(t).serving()
	client, server := b.pair()
	write(t, client, "ask")
	_ = client.CloseWrite()
	if got, err := io.ReadAll(server); string(got) != "ask" || err != nil {
		t.Fatalf("server read %q, %v", got, err)
	}
	write(t, server, "answer")
	_ = server.Close()
	if got, err := io.ReadAll(client); string(got) != "answer" || err != nil {
		t.Fatalf("client read %q, %v", got, err)
	}
}

// A full close reaches the other side as one: not as a half-close, after which
// it would go on writing to nobody.
func TestFullCloseReachesTheOtherSide(t *testing.T) {
	b := newBench(t).serving()
	client, server := b.pair()
	write(t, client, "x")
	read(t, server, 1)
	_ = server.Close()
	readEnd(t, client)
	if _, err := client.Write([]byte("y")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("the client's write after the server's close: %v, expected a broken pipe", err)
	}

	client, server = b.pair()
	_ = client.Close()
	readEnd(t, server)
	if !gone(server) {
		t.Error("the server sees a half-close where the client closed")
	}
}

// A server that stops reading is the client's broken pipe, and what the server
// still says arrives.
func TestWriteErrorsReachTheWriter(t *testing.T) {
	b := newBench(t).serving()
	client, server := b.pair()
	_ = server.CloseRead()
	for i := 0; ; i++ {
		if _, err := client.Write(make([]byte, 1000)); errors.Is(err, unix.EPIPE) {
			break
		} else if err != nil || i > 10_000_000 {
			t.Fatalf("write %d: %v", i, err)
		}
	}
	write(t, server, "still here")
	if got := read(t, client, 10); got != "still here" {
		t.Errorf("client read %q", got)
	}
}

func TestUpstreamAbsent(t *testing.T) {
	b := newBench(t, func(b *bench, _ *Config) { _ = b.server.Close() })
	b.serving()
	readEnd(t, b.dial())
	e := b.await(func(e mirror.Event) bool { return e.Kind == mirror.KindClose })
	if want := fmt.Sprintf("upstream: dial %s: no such file or directory", b.upstream); e.Text != want {
		t.Errorf("the tap is told %q, expected %q", e.Text, want)
	}
	b.server = listenUnix(t, b.upstream)
	client, server := b.pair()
	write(t, server, "here now")
	read(t, client, 8)
}

func TestTellsWhoIsAtBothEnds(t *testing.T) {
	b := newBench(t).serving()
	b.pair()
	e := b.await(func(e mirror.Event) bool { return e.Kind == mirror.KindOpen })
	exe, _ := os.Executable()
	if e.Peers != (mirror.Peers{ClientPID: uint32(os.Getpid()), ServerPID: uint32(os.Getpid()), ClientExe: exe, ServerExe: exe}) {
		t.Errorf("peers %+v", e.Peers)
	}
}

func TestServesOnlyOnceTheTapReads(t *testing.T) {
	b := newBench(t)
	if _, _, err := mirror.NewReader(b.tap); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(b.listen); err == nil {
		t.Error("the path is there before the tap reads")
	}
	_ = b.tap.Close()
	<-b.ended
	if _, err := os.Lstat(b.listen); err == nil || b.err != nil {
		t.Errorf("a tap that left at once: %v, path %v", b.err, err)
	}
}

// The tap dies, hangs, or was never quick enough: calls go on.
func TestNothingThatTheTapDoesHurts(t *testing.T) {
	talk := func(t *testing.T, client, server *net.UnixConn) {
		t.Helper()
		for range 200 {
			p := bytes.Repeat([]byte("call"), 5000)
			var wrote sync.WaitGroup
			wrote.Go(func() { _, _ = client.Write(p) })
			if got := read(t, server, len(p)); got != string(p) {
				t.Fatal("bytes were changed")
			}
			wrote.Wait()
			write(t, server, "ok")
			read(t, client, 2)
		}
	}
	t.Run("dies", func(t *testing.T) {
		b := newBench(t).serving()
		client, server := b.pair()
		_ = b.tap.Close()
		talk(t, client, server)
		_ = client.Close()
		<-b.ended
		if _, err := os.Lstat(b.listen); !os.IsNotExist(err) {
			t.Errorf("the path stays behind: %v", err)
		}
	})
	t.Run("hangs", func(t *testing.T) {
		b := newBench(t)
		if _, _, err := mirror.NewReader(b.tap); err != nil {
			t.Fatal(err)
		}
		if err := mirror.Ready(b.tap, mirror.Read); err != nil {
			t.Fatal(err)
		}
		client, err := Dial(b.listen)
		for ; err != nil; client, err = Dial(b.listen) {
			time.Sleep(time.Millisecond)
		}
		defer client.Close()
		look, err := b.server.AcceptUnix() // the relay's, at its upstream
		if err != nil {
			t.Fatal(err)
		}
		readEnd(t, look)
		_ = look.Close()
		talk(t, client, b.accept())
	})
}

// Detached: no new clients, the path is gone, and who is connected stays so.
func TestDetachRelaysWhatRemains(t *testing.T) {
	b := newBench(t).serving()
	client, server := b.pair()
	_ = b.tap.CloseWrite()
	e := b.await(func(e mirror.Event) bool { return e.Kind == mirror.KindDetached })
	if e.Count != 1 {
		t.Errorf("%d connections remain, expected 1", e.Count)
	}
	if _, err := net.Dial("unix", b.listen); !errors.Is(err, unix.ENOENT) {
		t.Errorf("dialling a detached path: %v", err)
	}
	write(t, client, "still")
	read(t, server, 5)
	_ = client.Close()
	<-b.ended
	if b.err != nil {
		t.Error(b.err)
	}
}

func TestDrainCutsOff(t *testing.T) {
	b := newBench(t, func(_ *bench, cfg *Config) { cfg.Drain = time.Millisecond }).serving()
	client, _ := b.pair()
	b.stop()
	readEnd(t, client)
	<-b.ended
}

// Whoever dialled before the path went is served, though nobody had accepted.
func TestNoClientIsLostAtTheEnd(t *testing.T) {
	for range 20 {
		b := newBench(t).serving()
		const clients = 20
		conns := make([]*net.UnixConn, clients)
		for i := range conns {
			conns[i] = b.dial()
		}
		b.stop()
		for range clients {
			s, err := b.server.AcceptUnix()
			if err != nil {
				t.Fatal(err)
			}
			if gone(s) {
				s, _ = b.server.AcceptUnix()
			}
			write(t, s, "hi")
			_ = s.Close()
		}
		for _, c := range conns {
			read(t, c, 2)
			_ = c.Close()
		}
		<-b.ended
	}
}
