package proxy

import (
	"context"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// engine is a Relay whose upstream the test plays.
type engine struct {
	*Relay
	t     *testing.T
	moved atomic.Uint64
	lost  atomic.Int64
	up    chan *net.UnixConn // the upstream's ends, as they are dialled
	err   error              // that dialling fails with
}

func newEngine(t *testing.T) *engine {
	e := &engine{t: t, up: make(chan *net.UnixConn, 100)}
	e.Relay = New(Options{Dial: e.dialled, Moved: &e.moved, Lost: func() { e.lost.Add(1) }})
	t.Cleanup(func() { e.Drain(context.Background(), time.Nanosecond) })
	return e
}

func (e *engine) dialled() (*net.UnixConn, error) {
	if e.err != nil {
		return nil, e.err
	}
	ours, theirs := socketPair(e.t)
	e.up <- theirs
	return ours, nil
}

// pair is a client and the server's end of its connection.
func (e *engine) pair() (client, server *net.UnixConn) {
	e.t.Helper()
	ours, theirs := socketPair(e.t)
	e.Begin(theirs)
	server = <-e.up
	e.t.Cleanup(func() { _ = ours.Close(); _ = server.Close() })
	return ours, server
}

// awaitAsked waits until every client that is to be told is being told.
func (e *engine) awaitAsked() {
	e.t.Helper()
	await(e.t, "the clients to be asked", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, c := range e.conns {
			c.out.mu.Lock()
			asked := c.out.asked || c.out.frames.over
			c.out.mu.Unlock()
			if !asked {
				return false
			}
		}
		return true
	})
}

// await polls for what nothing announces.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

func TestLost(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(client, server *net.UnixConn)
		want int64
	}{
		"the server closes": {func(_, server *net.UnixConn) { _ = server.Close() }, 1},
		"the server resets": {func(client, server *net.UnixConn) {
			write(t, client, "unread")
			await(t, "it to arrive", func() bool { return queued(server) == 6 })
			_ = server.Close()
		}, 1},
		"the server ends its side": {func(client, server *net.UnixConn) {
			_ = server.CloseWrite()
			readEnd(t, client)
			_ = client.Close()
		}, 1},
		"the client closes": {func(client, _ *net.UnixConn) { _ = client.Close() }, 0},
		"the client ends its side, the server follows": {func(client, server *net.UnixConn) {
			_ = client.CloseWrite()
			readEnd(t, server)
			_ = server.Close()
		}, 0},
		"the client leaves in the midst": {func(client, server *net.UnixConn) {
			write(t, server, "unread")
			await(t, "it to arrive", func() bool { return queued(client) == 6 })
			_ = client.Close()
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			client, server := e.pair()
			c.end(client, server)
			e.Drain(context.Background(), 0)
			if n := e.lost.Load(); n != c.want {
				t.Errorf("lost %d times, expected %d", n, c.want)
			}
		})
	}
	t.Run("cut off", func(t *testing.T) {
		for range 20 { // either side may see it first
			e := newEngine(t)
			e.pair()
			e.Drain(context.Background(), time.Nanosecond)
			if e.lost.Load() != 0 {
				t.Fatal("a cut is a loss")
			}
		}
	})
	t.Run("no upstream", func(t *testing.T) {
		e := newEngine(t)
		e.err = unix.ECONNREFUSED
		client, theirs := socketPair(t)
		defer client.Close()
		e.Begin(theirs)
		readEnd(t, client)
		e.Drain(context.Background(), 0)
		if e.lost.Load() != 1 {
			t.Error("nobody was told")
		}
	})
}

// queued is how many bytes wait to be read.
func queued(c *net.UnixConn) (n int) {
	raw, err := c.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	}
	return n
}

func TestAProbeIsClosedAtOnce(t *testing.T) {
	dials := 0
	r := New(Options{
		Dial:  func() (*net.UnixConn, error) { dials++; return nil, unix.ECONNREFUSED },
		Probe: func(pid uint32) bool { return int(pid) == os.Getpid() },
		Lost:  func() { t.Error("a probe lost something") },
	})
	client, theirs := socketPair(t)
	defer client.Close()
	r.Begin(theirs)
	if len(r.Clients()) != 0 {
		t.Errorf("clients %+v", r.Clients())
	}
	readEnd(t, client)
	r.Drain(context.Background(), 0)
	if dials != 0 {
		t.Error("a probe was dialled for")
	}
}

func TestMovedAndClients(t *testing.T) {
	e := newEngine(t)
	client, server := e.pair()
	write(t, client, "ask")
	read(t, server, 3)
	write(t, server, "answer")
	read(t, client, 6)
	exe, _ := os.Executable()
	if c := e.Clients(); len(c) != 1 || c[0] != (Client{PID: uint32(os.Getpid()), Exe: exe}) {
		t.Errorf("clients %+v", c)
	}
	_ = client.Close()
	e.Drain(context.Background(), 0)
	if n := e.moved.Load(); n != 9 || len(e.Clients()) != 0 {
		t.Errorf("%d bytes moved, %d clients are left", n, len(e.Clients()))
	}
}

func TestDrainEndsWithItsContext(t *testing.T) {
	e := newEngine(t)
	client, server := e.pair()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e.Drain(ctx, 0)
	write(t, client, "still")
	read(t, server, 5)
}

// One buffer per direction, and nothing more for any number of chunks.
func TestAChunkAllocatesNothing(t *testing.T) {
	e := newEngine(t)
	client, server := e.pair()
	frame := []byte(settings)
	buf := make([]byte, len(frame))
	if n := testing.AllocsPerRun(500, func() {
		_, _ = server.Write(frame)
		_, _ = io.ReadFull(client, buf)
		_, _ = client.Write(frame)
		_, _ = io.ReadFull(server, buf)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	t := &testing.T{}
	e := &engine{t: t, up: make(chan *net.UnixConn, 1)}
	e.Relay = New(Options{Dial: e.dialled})
	client, theirs := socketPair(t)
	e.Begin(theirs)
	server := <-e.up
	frame, buf := []byte(settings), make([]byte, len(settings))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = client.Write(frame)
		_, _ = io.ReadFull(server, buf)
		_, _ = server.Write(frame)
		_, _ = io.ReadFull(client, buf)
	}
	_ = client.Close()
	_ = server.Close()
	e.Drain(context.Background(), 0)
}
