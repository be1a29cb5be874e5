package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
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
		for c := range e.conns {
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

const settings = "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"

// Real sockets, both directions busy, a SendOff at any moment: the law, and the
// other direction is as it was.
func TestSendOffWhileBytesPass(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 8))
		e := newEngine(t)
		client, server := e.pair()
		in := session(r, 1+r.IntN(100), 4000, r.IntN(4) == 0)
		asked := rand.New(rand.NewPCG(seed, 9)).IntN(len(in))
		var work sync.WaitGroup
		sums := make([][32]byte, 2)
		work.Go(func() { sums[0] = send(t, client, rand.New(rand.NewPCG(seed, 10))) })
		work.Go(func() { sums[1] = receive(t, server) })
		work.Go(func() {
			for p := in; len(p) > 0; {
				n := 1 + r.IntN(min(len(p), 5000))
				write(t, server, string(p[:n]))
				p = p[n:]
			}
			_ = server.CloseWrite()
		})
		out := []byte(read(t, client, asked))
		e.SendOff()
		rest, err := io.ReadAll(client)
		work.Wait()
		if err != nil || sums[0] != sums[1] {
			t.Fatalf("seed %d: %v, or the client's bytes were changed", seed, err)
		}
		if err := unmoved(in, append(out, rest...), asked); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// unmoved holds what a client got against what its server said, if nobody knows
// where the bytes were when the GOAWAY was asked for, but at no less than from.
func unmoved(in, out []byte, from int) error {
	if bytes.Equal(in, out) {
		return nil // it came too late
	}
	for _, at := range places(in) {
		if at >= from && bytes.Equal(out, slices.Concat(in[:at], goaway, in[at:])) {
			return nil
		}
	}
	return errors.New("the client did not get what the server sent, with at most a GOAWAY in its place")
}

func TestAnIdleClientIsToldAtOnceAndOnce(t *testing.T) {
	e := newEngine(t)
	client, server := e.pair()
	write(t, server, settings)
	read(t, client, len(settings))
	e.SendOff()
	if got := read(t, client, len(goaway)); got != string(goaway) {
		t.Fatalf("an idle client got %x", got)
	}
	e.SendOff()
	write(t, server, settings)
	_ = server.CloseWrite()
	if got, err := io.ReadAll(client); string(got) != settings || err != nil {
		t.Errorf("after it the client got %x, %v", got, err)
	}
	_ = client.Close()
	e.Drain(context.Background(), 0)
	if n := e.moved.Load(); n != uint64(2*len(settings)) {
		t.Errorf("%d bytes moved: ours are none", n)
	}
}

// Who is not HTTP/2, or not yet, gets nothing; who becomes it, then.
func TestWhoCannotBeTold(t *testing.T) {
	for name, said := range map[string][]string{
		"HTTP/1.1":       {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{", "}\r\n"},
		"nothing":        {""},
		"half SETTINGS":  {settings[:5], settings[5:12]},
		"an open block":  {settings + "\x00\x00\x01\x01\x00\x00\x00\x00\x01x"},
		"its own GOAWAY": {settings + string(goaway), settings},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			client, server := e.pair()
			var all string
			for _, s := range said {
				write(t, server, s)
				read(t, client, len(s))
				e.SendOff()
				e.awaitAsked()
				all += s
			}
			write(t, client, "POST")
			if got := read(t, server, 4); got != "POST" {
				t.Errorf("the server got %q", got)
			}
			_ = server.CloseWrite()
			if got, err := io.ReadAll(client); len(got) != 0 || err != nil {
				t.Errorf("the server said %q; the client got %x more, %v", all, got, err)
			}
		})
	}
}

// A client with no room is not waited for, and told in its place when it reads.
func TestSendOffDoesNotWait(t *testing.T) {
	e := newEngine(t)
	client, server := e.pair()
	in := session(rand.New(rand.NewPCG(3, 3)), 300, 10_000, false)
	var wrote sync.WaitGroup
	wrote.Go(func() { write(t, server, string(in)); _ = server.CloseWrite() })
	await(t, "the client's buffer to fill", func() bool {
		before := e.moved.Load()
		time.Sleep(20 * time.Millisecond) // sooner only makes the test easier
		return before > 0 && e.moved.Load() == before
	})
	e.SendOff()
	out, err := io.ReadAll(client)
	if err != nil {
		t.Fatal(err)
	}
	if err := unmoved(in, out, 0); err != nil || len(out) == len(in) {
		t.Errorf("%d bytes of %d came, %v", len(out), len(in), err)
	}
	wrote.Wait()
}

// A client that never reads holds up neither the cut nor anything else.
func TestAClientWithoutRoomIsCutOff(t *testing.T) {
	e := newEngine(t)
	client, server := e.pair()
	var wrote sync.WaitGroup
	wrote.Go(func() { _, _ = server.Write(make([]byte, 4<<20)) })
	read(t, client, 1)
	e.SendOff()
	e.Drain(context.Background(), time.Millisecond)
	wrote.Wait()
	if n := len(e.Clients()); n != 0 {
		t.Errorf("%d clients are left", n)
	}
}

// A GOAWAY that went out in part is a broken connection, and said to be.
func TestAHalfGoAwayEndsTheConnection(t *testing.T) {
	client, theirs := socketPair(t)
	defer client.Close()
	c := &conn{client: theirs, out: toClient{client: failing{5}, told: func() {}}}
	c.out.frames.greeted = true
	c.sendOff()
	readEnd(t, client)
	if c.reason != "write: no buffer space available" {
		t.Errorf("the reason is %q", c.reason)
	}
}

// Who begins later is told too, but not who was told and comes back: its path
// leads here, and it would come for ever.
func TestLateClients(t *testing.T) {
	e := newEngine(t)
	e.SendOff()
	client, server := e.pair()
	write(t, server, settings)
	if got := read(t, client, len(settings)+len(goaway)); got != settings+string(goaway) {
		t.Errorf("a late client got %x", got)
	}
	again, server := e.pair()
	write(t, server, settings)
	_ = server.CloseWrite()
	if got, err := io.ReadAll(again); string(got) != settings || err != nil {
		t.Errorf("one that came back got %x, %v", got, err)
	}
	kept := 0
	for _, c := range e.Clients() {
		if c.Kept {
			kept++
		}
	}
	if kept != 1 || len(e.Clients()) != 2 {
		t.Errorf("clients %+v", e.Clients())
	}
}

// asClient has the test binary be a client and print what it gets.
const asClient = "PROXY_TEST_CLIENT"

// beClient dials path and copies what it gets to standard output.
func beClient(path string) error {
	c, err := Dial(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, c)
	return err
}

// A sidecar that would exit is not told.
func TestSidecarsAreKept(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sidecar := filepath.Join(dir, "csi-provisioner")
	if bin, err := os.ReadFile(exe); err != nil || os.WriteFile(sidecar, bin, 0o700) != nil {
		t.Fatal("no copy of the test:", err)
	}
	lis := listenUnix(t, filepath.Join(dir, "s"))
	defer lis.Close()
	cmd := exec.Command(sidecar)
	cmd.Env = append(os.Environ(), asClient+"="+filepath.Join(dir, "s"))
	var got bytes.Buffer
	cmd.Stdout, cmd.Stderr = &got, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client, err := lis.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t)
	e.Begin(client)
	server := <-e.up
	if c := e.Clients(); len(c) != 1 || c[0] != (Client{PID: uint32(cmd.Process.Pid), Exe: sidecar, Kept: true}) {
		t.Errorf("clients %+v", c)
	}
	write(t, server, settings)
	e.SendOff()
	e.awaitAsked()
	write(t, server, settings)
	_ = server.Close()
	if err := cmd.Wait(); err != nil || got.String() != settings+settings {
		t.Errorf("the sidecar got %x, %v", got.Bytes(), err)
	}
}

func TestKept(t *testing.T) {
	for exe, want := range map[string]bool{
		"/usr/bin/kubelet":                   false,
		"/usr/bin/kubelet (deleted)":         false,
		"/usr/local/bin/k3s":                 false,
		"/usr/bin/crictl":                    false,
		"/csi-node-driver-registrar":         true,
		"/csi-provisioner":                   true,
		"/csi-snapshot-metadata (deleted)":   true,
		"/livenessprobe":                     true,
		"/usr/bin/csi-addons":                true,
		"/dell-csi-replicator":               true,
		"/opt/csi/kubelet":                   false,
		"/bin/volume-modifier-for-k8s":       true,
		"/usr/bin/node-driver-registrar":     true,
		"/csi-external-health-monitor-agent": true,
		"":                                   true,
	} {
		if keeps(exe) != want {
			t.Errorf("%q is kept: %v", exe, !want)
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
		e := newEngine(t)
		e.pair()
		e.Drain(context.Background(), time.Nanosecond)
		if e.lost.Load() != 0 {
			t.Error("a cut is a loss")
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
