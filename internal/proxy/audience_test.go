package proxy

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
)

// house is a relay with a door, by which taps come.
type house struct {
	*Relay
	taps *Audience
	door string
	t    *testing.T

	client, server *net.UnixConn // of a connection that is relayed
}

func newHouse(t *testing.T) *house {
	t.Helper()
	upstream, server := socketPair(t)
	dial := sync.OnceValue(func() *net.UnixConn { return upstream })
	// Longer than sun_path.
	h := &house{t: t, server: server, door: filepath.Join(t.TempDir(), "own", strings.Repeat("x", 120))}
	h.Relay = New(Options{Dial: func() (*net.UnixConn, error) { return dial(), nil }})
	h.taps = NewAudience(h.Relay, "/listen", "/upstream", h.Redial)
	d, err := MakeDoor(h.door)
	if err == nil {
		err = d.Open()
	}
	if err != nil {
		t.Fatal(err)
	}
	go d.Serve(h.taps, nil)
	t.Cleanup(func() { h.taps.Close(); d.Close() })
	return h
}

// connect has a client connected, and its first bytes relayed.
func (h *house) connect() {
	h.t.Helper()
	client, ours := socketPair(h.t)
	h.client = client
	h.Begin(ours)
	write(h.t, client, "ask")
	read(h.t, h.server, 3)
	h.t.Cleanup(func() { _ = client.Close(); _ = h.server.Close() })
}

// guest is a tap that has come.
type guest struct {
	*mirror.Reader
	conn *net.UnixConn
	t    *testing.T
}

func (h *house) tap(s mirror.Seat) *guest {
	h.t.Helper()
	c, err := Knock(h.door)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	r, hello, err := mirror.NewReader(c)
	if err == nil {
		err = mirror.Ready(c, s)
	}
	if err != nil || hello.Listen != "/listen" || hello.Upstream != "/upstream" {
		h.t.Fatalf("%v, %+v", err, hello)
	}
	return &guest{Reader: r, conn: c, t: h.t}
}

// hears takes the next event, which is to be of a kind.
func (g *guest) hears(k mirror.Kind) mirror.Event {
	g.t.Helper()
	e, err := g.Next()
	if err != nil || e.Kind != k {
		g.t.Fatalf("kind %d (%v), not %d", e.Kind, err, k)
	}
	return e
}

// The newest tap reads, and is told what it came too late for; it is over for who
// read before; who stands by reads when that leaves.
func TestAudience(t *testing.T) {
	h := newHouse(t)
	h.taps.Serving(nil)
	first := h.tap(mirror.Read)
	first.hears(mirror.KindServing)
	h.connect()
	conn := first.hears(mirror.KindOpen).Conn
	first.hears(mirror.KindChunk)

	second := h.tap(mirror.Read)
	second.hears(mirror.KindServing)
	if e := second.hears(mirror.KindOld); e.Conn != conn {
		t.Errorf("connection %d is told as %d", conn, e.Conn)
	}
	first.hears(mirror.KindOver)

	third := h.tap(mirror.StandBy)
	h.taps.Away("the server is down")
	second.hears(mirror.KindAway)
	_ = second.conn.CloseWrite()
	second.hears(mirror.KindOver)
	third.hears(mirror.KindAway)
	third.hears(mirror.KindOld)
	_ = h.client.Close()
	if e := third.hears(mirror.KindClose); e.Conn != conn {
		t.Errorf("connection %d closes as %d", conn, e.Conn)
	}
	h.taps.Detached(0)
	third.hears(mirror.KindDetached)
	if reads, _ := h.taps.Reading(); !reads {
		t.Error("the third does not read")
	}
	h.tap(mirror.Read).hears(mirror.KindDetached) // it comes too late
}

// A tap that asks has the client told once, at a frame's end.
func TestAudienceAsks(t *testing.T) {
	h := newHouse(t)
	h.connect()
	tap := h.tap(mirror.Read)
	conn := tap.hears(mirror.KindOld).Conn
	write(t, h.server, "\x00\x00\x00\x04\x00\x00\x00\x00\x00") // SETTINGS
	read(t, h.client, 9)
	for range 2 {
		if err := mirror.AskRedial(tap.conn, conn); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, h.client, len(goaway)); got != string(goaway) {
		t.Errorf("the client reads %q", got)
	}
	write(t, h.server, "\x00\x00\x00\x04\x01\x00\x00\x00\x00")
	if got := read(t, h.client, 9); got[3] != frameSettings {
		t.Errorf("it was told twice: %q", got)
	}
}

// A door lets in so many and no more: who comes then is turned away, and who
// comes when one has left is let in.
func TestDoorIsBounded(t *testing.T) {
	h := newHouse(t)
	h.taps.Serving(nil)
	first := h.tap(mirror.Read)
	first.hears(mirror.KindServing)
	for range maxGuests - 1 {
		h.tap(mirror.StandBy)
	}
	c, err := Knock(h.door)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("one too many is let in: %v", err)
	}
	_ = first.conn.Close()
	await(t, "one more to be let in", func() bool {
		c, err := Knock(h.door)
		if err != nil {
			return false
		}
		defer c.Close()
		_, err = c.Read(make([]byte, 1)) // its hello
		return err == nil
	})
}

// Raw bytes leave by a door: it is nobody's else.
func TestDoorIsItsOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := MakeDoor(filepath.Join(dir, "door")); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("in a directory that others may enter: %v", err)
	}
	d, err := MakeDoor(filepath.Join(dir, "in", "door"))
	if err == nil {
		err = d.Open()
	}
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{filepath.Join(dir, "in"): 0o700, filepath.Join(dir, "in", "door"): 0o600} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
	d.Close()
	if left, _ := os.ReadDir(filepath.Join(dir, "in")); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
}

// A relay that takes another's place takes its door's too, and the other's end
// leaves that alone.
func TestDoorOfASuccessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "own", "door")
	var doors []*Door
	for range 2 {
		d, err := MakeDoor(path)
		if err == nil {
			err = d.Open()
		}
		if err != nil {
			t.Fatal(err)
		}
		doors = append(doors, d)
	}
	doors[0].Close()
	if _, err := Knock(path); err != nil {
		t.Errorf("the second door: %v", err)
	}
	doors[1].Close()
}

// However often a tap asks for a client that has no room, it is told once, and one
// goroutine waits for that.
func TestRedialIsAskedOnce(t *testing.T) {
	h := newHouse(t)
	h.connect()
	go func() { // fills the way to the client
		for {
			if _, err := h.server.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	time.Sleep(100 * time.Millisecond)
	before := runtime.NumGoroutine()
	for range 1000 {
		h.Redial(1)
	}
	time.Sleep(50 * time.Millisecond)
	if n := runtime.NumGoroutine() - before; n > 10 {
		t.Errorf("%d goroutines wait", n)
	}
}
