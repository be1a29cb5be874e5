package mirror

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a relay's end and a tap's end with a pipe between.
type pair struct {
	w    *Writer
	out  net.Conn
	in   net.Conn
	done chan struct{}
	ran  sync.WaitGroup
}

func newPair(t *testing.T, queue int) *pair {
	t.Helper()
	p := &pair{w: NewWriter(queue), done: make(chan struct{})}
	p.out, p.in = net.Pipe()
	t.Cleanup(func() { _ = p.out.Close(); _ = p.in.Close(); p.ran.Wait() })
	return p
}

// run lets the writer write; until then everything stays queued.
func (p *pair) run() { p.ran.Go(func() { _ = p.w.WriteTo(p.out, p.done); _ = p.out.Close() }) }

// events reads to the stream's end, with data copied.
func (p *pair) events(t *testing.T) []Event {
	t.Helper()
	r, h, err := NewReader(p.in)
	if err != nil {
		t.Fatal(err)
	}
	all := []Event{{Kind: KindHello, Hello: h}}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		e.Data = bytes.Clone(e.Data)
		all = append(all, e)
	}
}

func TestEverythingArrivesInOrder(t *testing.T) {
	p := newPair(t, DefaultQueue)
	p.w.Hello("/run/tap.sock", "/run/real.sock")
	p.w.Serving(errors.New("no such file"))
	c := p.w.Open(1, Peers{ClientPID: 7, ClientExe: "/usr/bin/kubelet", ServerPID: 8, ServerExe: "/usr/bin/containerd"})
	c.Chunk(FromClient, []byte("ask"))
	c.Chunk(FromServer, []byte("answer"))
	c.End(FromClient)
	c.Close("why")
	p.w.Detached(3)
	p.run()
	close(p.done)
	var got []string
	last := time.Time{}
	for _, e := range p.events(t) {
		if e.Kind != KindHello {
			if e.At.Before(last) {
				t.Errorf("time runs backwards at %+v", e)
			}
			last = e.At
		}
		got = append(got, fmt.Sprintf("%d conn %d %v %q %+v %+v %q %d", e.Kind, e.Conn, e.Dir, e.Data, e.Peers, e.Totals, e.Text, e.Count))
	}
	want := []string{
		`1 conn 0 client "" {ClientPID:0 ServerPID:0 ClientExe: ServerExe:} {FromClient:0 FromServer:0 Dropped:0} "" 0`,
		`2 conn 0 client "" {ClientPID:0 ServerPID:0 ClientExe: ServerExe:} {FromClient:0 FromServer:0 Dropped:0} "no such file" 0`,
		`3 conn 1 client "" {ClientPID:7 ServerPID:8 ClientExe:/usr/bin/kubelet ServerExe:/usr/bin/containerd} {FromClient:0 FromServer:0 Dropped:0} "" 0`,
		`4 conn 1 client "ask" {ClientPID:0 ServerPID:0 ClientExe: ServerExe:} {FromClient:0 FromServer:0 Dropped:0} "" 0`,
		`4 conn 1 server "answer" {ClientPID:0 ServerPID:0 ClientExe: ServerExe:} {FromClient:0 FromServer:0 Dropped:0} "" 0`,
		`5 conn 1 client "" {ClientPID:0 ServerPID:0 ClientExe: ServerExe:} {FromClient:0 FromServer:0 Dropped:0} "" 0`,
		`7 conn 1 client "" {ClientPID:0 ServerPID:0 ClientExe: ServerExe:} {FromClient:3 FromServer:6 Dropped:0} "why" 0`,
		`8 conn 0 client "" {ClientPID:0 ServerPID:0 ClientExe: ServerExe:} {FromClient:0 FromServer:0 Dropped:0} "" 3`,
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nexpected\n%s", g, w)
	}
}

// A tap that does not read: nothing blocks, the connection that did not fit is
// blind, its count is exact, and others that fit are whole.
func TestOverflowBlindsOneConnectionAndIsCountedExactly(t *testing.T) {
	p := newPair(t, 4*controlRoom)
	p.w.Hello("a", "b")
	small, big := p.w.Open(1, Peers{}), p.w.Open(2, Peers{})
	small.Chunk(FromClient, []byte("before"))
	sent := 0
	for range 100 {
		big.Chunk(FromServer, make([]byte, 30_000))
		sent += 30_000
	}
	small.Chunk(FromClient, []byte("after"))
	big.Close("")
	small.Close("")
	p.run()
	close(p.done)

	var got string
	mirrored, blind := 0, 0
	var totals Totals
	for _, e := range p.events(t) {
		switch {
		case e.Kind == KindChunk && e.Conn == 1:
			got += string(e.Data)
		case e.Kind == KindChunk:
			if blind > 0 {
				t.Error("a chunk follows the blindness")
			}
			mirrored += len(e.Data)
		case e.Kind == KindBlind:
			blind++
		case e.Kind == KindClose && e.Conn == 2:
			totals = e.Totals
		}
	}
	if got != "beforeafter" {
		t.Errorf("the small connection has %q", got)
	}
	if want := (Totals{FromServer: uint64(sent), Dropped: uint64(sent - mirrored)}); totals != want || mirrored == 0 {
		t.Errorf("totals %+v, expected %+v", totals, want)
	}
	if blind != 1 {
		t.Errorf("blindness was said %d times", blind)
	}
}

// Even with no room for a single event, every connection is accounted for
// once there is.
func TestNothingIsForgottenWhenNotEvenEventsFit(t *testing.T) {
	p := newPair(t, 2*controlRoom)
	p.w.Hello("a", "b")
	const conns = 20_000
	for i := range conns {
		c := p.w.Open(uint64(i+1), Peers{ClientExe: strings.Repeat("x", 100)})
		c.Chunk(FromClient, make([]byte, 1000))
		c.End(FromClient)
		c.Close("")
	}
	p.w.Detached(0)
	if owed := len(p.w.owed); owed > 3*maxOwed {
		t.Errorf("%d connections are owed something", owed)
	}
	p.run()
	close(p.done)
	opened, closed, missed, mirrored, dropped := map[uint64]bool{}, 0, 0, uint64(0), uint64(0)
	last := Kind(0)
	for _, e := range p.events(t) {
		last = e.Kind
		switch e.Kind {
		case KindMissed:
			missed += int(e.Count)
			dropped += e.Totals.Dropped
		case KindOpen:
			opened[e.Conn] = true
		case KindChunk:
			mirrored += uint64(len(e.Data))
		case KindClose:
			closed++
			dropped += e.Totals.Dropped
			if !opened[e.Conn] {
				t.Fatalf("connection %d closed, but never opened", e.Conn)
			}
		}
	}
	if len(opened) != closed || closed+missed != conns || mirrored+dropped != conns*1000 || dropped == 0 || missed == 0 {
		t.Errorf("opened %d, closed %d, missed %d, mirrored %d, dropped %d", len(opened), closed, missed, mirrored, dropped)
	}
	if last != KindDetached {
		t.Errorf("the last event is of kind %d, not Detached", last)
	}
}

func TestWriterGoesOnWithoutATap(t *testing.T) {
	p := newPair(t, DefaultQueue)
	_ = p.in.Close()
	p.w.Hello("a", "b")
	p.run()
	c := p.w.Open(1, Peers{})
	for range 10_000 {
		c.Chunk(FromClient, make([]byte, 1000))
	}
	c.Close("")
	p.ran.Wait()
	d := p.w.Open(2, Peers{})
	d.Chunk(FromClient, []byte("x"))
	d.Close("")
	if p.w.q.ring != nil {
		t.Error("the queue is kept though nobody will read it")
	}
}

// Many connections from many goroutines, a reader that stalls at random: what
// arrives is each connection's bytes in order, up to where it went blind.
func TestConcurrentConnections(t *testing.T) {
	p := newPair(t, 4*controlRoom)
	p.w.Hello("a", "b")
	p.run()
	var relays sync.WaitGroup
	for i := range 8 {
		relays.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 4))
			c := p.w.Open(uint64(i+1), Peers{ClientPID: uint32(i)})
			b := byte(0)
			for range 300 {
				chunk := make([]byte, r.IntN(3000))
				for j := range chunk {
					chunk[j] = b
					b++
				}
				c.Chunk(FromClient, chunk)
			}
			c.Close("")
		})
	}
	go func() { relays.Wait(); close(p.done) }()
	next := map[uint64]byte{}
	bytes, closed := map[uint64]uint64{}, 0
	for _, e := range p.events(t) {
		switch e.Kind {
		case KindChunk:
			for _, b := range e.Data {
				if b != next[e.Conn] {
					t.Fatalf("connection %d: byte %d, expected %d", e.Conn, b, next[e.Conn])
				}
				next[e.Conn]++
			}
			bytes[e.Conn] += uint64(len(e.Data))
		case KindClose:
			closed++
			if e.Totals.FromClient != bytes[e.Conn]+e.Totals.Dropped {
				t.Errorf("connection %d: %+v, mirrored %d", e.Conn, e.Totals, bytes[e.Conn])
			}
		}
	}
	if closed != 8 {
		t.Errorf("%d closed", closed)
	}
}

func TestVersionsMustAgree(t *testing.T) {
	e := Event{Kind: KindHello, At: time.Unix(0, 0), Hello: Hello{Version: Version + 1, PID: 42}}
	_, _, err := NewReader(bytes.NewReader(appendEvent(nil, &e, 0)))
	if err == nil || !strings.Contains(err.Error(), "pid 42") {
		t.Errorf("error %v names no relay", err)
	}
	for _, said := range []string{"\x00r", string(rune(Version)) + "x"} {
		if _, err := AwaitReady(strings.NewReader(said)); !errors.Is(err, ErrFormat) {
			t.Errorf("a tap that says %q: %v", said, err)
		}
	}
}

// A tap that comes late is told of the connections that it can't decode, and of
// their end; nothing of them counts as dropped.
func TestOldConnections(t *testing.T) {
	p := newPair(t, DefaultQueue)
	p.w.Hello("a", "b")
	opened := time.Now().Add(-time.Hour)
	c := p.w.Old(7, Peers{ClientPID: 3}, opened)
	c.Chunk(FromClient, []byte("more"))
	c.End(FromClient)
	c.Close("")
	p.w.Over()
	p.run()
	close(p.done)
	all := p.events(t)[1:]
	if len(all) != 3 || all[0].Kind != KindOld || all[1].Kind != KindClose || all[2].Kind != KindOver {
		t.Fatalf("events %+v", all)
	}
	if e := all[0]; e.Conn != 7 || e.Peers.ClientPID != 3 {
		t.Errorf("it is told as %+v", e)
	}
	if tt := all[1].Totals; tt.FromClient != 4 || tt.Dropped != 0 {
		t.Errorf("its end: %+v", tt)
	}
	var wall Wall
	if got := wall.Of(all[0].At); got.Sub(opened).Abs() > time.Second {
		t.Errorf("opened at %v, told as %v", opened, got)
	}
}

// More old connections than the queue can name: none is forgotten.
func TestManyOldConnections(t *testing.T) {
	p := newPair(t, 2*controlRoom)
	p.w.Hello("a", "b")
	const conns = 20_000
	for i := range conns {
		p.w.Old(uint64(i+1), Peers{ClientExe: strings.Repeat("x", 100)}, time.Now())
	}
	p.run()
	close(p.done)
	seen := map[uint64]bool{}
	for _, e := range p.events(t) {
		if e.Kind == KindOld {
			seen[e.Conn] = true
		}
	}
	if len(seen) != conns {
		t.Errorf("%d of %d are told", len(seen), conns)
	}
}

func TestAsks(t *testing.T) {
	var b bytes.Buffer
	if err := errors.Join(Ready(&b, StandBy), AskRedial(&b, 5), AskRedial(&b, 6)); err != nil {
		t.Fatal(err)
	}
	if s, err := AwaitReady(&b); s != StandBy || err != nil {
		t.Errorf("seat %q, %v", s, err)
	}
	var asked []uint64
	HearAsks(&b, func(c uint64) { asked = append(asked, c) })
	if len(asked) != 2 || asked[0] != 5 || asked[1] != 6 {
		t.Errorf("asked %v", asked)
	}
}

func TestAheadHoldsNoMoreThanItsLimit(t *testing.T) {
	r, w := io.Pipe()
	a := NewAhead(r, aheadBlock)
	var wrote sync.WaitGroup
	want := make([]byte, 10*aheadBlock)
	for i := range want {
		want[i] = byte(i * 7)
	}
	wrote.Go(func() { _, _ = w.Write(want); _ = w.CloseWithError(io.ErrUnexpectedEOF) })
	got, err := io.ReadAll(readerFunc(func(p []byte) (int, error) {
		a.mu.Lock()
		if a.held > aheadBlock {
			t.Errorf("holds %d bytes", a.held)
		}
		a.mu.Unlock()
		return a.Read(p)
	}))
	if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, error %v", len(got), len(want), err)
	}
	wrote.Wait()
	a.Close()
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// FuzzReader: hostile bytes end in an error and bounded memory; events that
// are read write back to the same bytes.
func FuzzReader(f *testing.F) {
	at := time.Unix(1, 2)
	var all []byte
	for _, e := range []Event{
		{Kind: KindHello, Hello: Hello{Version: Version, PID: 1, Listen: "/a", Upstream: "/b"}},
		{Kind: KindServing, Text: "connection refused"},
		{Kind: KindOpen, Conn: 1, Peers: Peers{ClientPID: 1, ClientExe: "/x"}},
		{Kind: KindChunk, Conn: 1, Dir: FromServer},
		{Kind: KindEnd, Conn: 1},
		{Kind: KindBlind, Conn: 1, Totals: Totals{1, 2, 3}},
		{Kind: KindClose, Conn: 1, Totals: Totals{1, 2, 3}, Text: "upstream"},
		{Kind: KindDetached, Count: 3},
		{Kind: KindMissed, Totals: Totals{1, 2, 3}, Count: 3},
		{Kind: KindAway, Text: "the server is down"},
	} {
		e.At = at
		b := appendEvent(nil, &e, 0)
		f.Add(b)
		all = append(all, b...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := NewReader(bytes.NewReader(b))
		if err != nil {
			r = &Reader{in: newBufio(b)}
		}
		for {
			e, err := r.Next()
			if err != nil {
				if cap(r.buf) > len(b)+2*aheadBlock {
					t.Fatalf("%d bytes were allocated for %d", cap(r.buf), len(b))
				}
				return
			}
			read := bytes.Clone(r.buf)
			back := append(appendEvent(nil, &e, len(e.Data)), e.Data...)
			if e.Kind < KindHello || e.Kind >= kindEnd || len(e.Text) <= maxString && !bytes.Equal(back[lengthSize:], read) && !longString(&e) {
				t.Fatalf("read %x, wrote %x", read, back[lengthSize:])
			}
		}
	})
}

func longString(e *Event) bool {
	return max(len(e.Hello.Listen), len(e.Hello.Upstream), len(e.Peers.ClientExe), len(e.Peers.ServerExe)) > maxString
}

func newBufio(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }
