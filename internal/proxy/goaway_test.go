package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"
)

// way is a way to a client, and the client.
type way struct {
	to   toClient
	got  bytes.Buffer
	said int
}

func newWay() *way {
	w := &way{}
	w.to.client, w.to.told = w, func() { w.said++ }
	return w
}

func (w *way) Write(p []byte) (int, error) { return w.got.Write(p) }
func (w *way) CloseWrite() error           { return nil }

// passes says what a client gets of in, cut by cut, if the GOAWAY is asked for
// when asked bytes have passed, or with the chunk that they end in.
func passes(in []byte, asked int, cut func(n int) int) (out []byte, from int, said int) {
	w, passed := newWay(), 0
	from = -1
	for p := in; ; {
		if from < 0 && passed >= asked {
			from = passed
			_ = w.to.ask()
		}
		if len(p) == 0 {
			return w.got.Bytes(), from, w.said
		}
		n := min(max(cut(len(p)), 1), len(p))
		lent := bytes.Clone(p[:n]) // the way may keep nothing of what it is lent
		_, _ = w.to.Write(lent)
		copy(lent, make([]byte, n))
		p, passed = p[n:], passed+n
	}
}

// law holds what a client got against what its server said.
func law(in, out []byte, from, said int) error {
	at := slices.IndexFunc(places(in), func(at int) bool { return at >= from })
	want := in
	if from >= 0 && at >= 0 {
		at = places(in)[at]
		want = slices.Concat(in[:at], goaway, in[at:])
	}
	if !bytes.Equal(out, want) {
		return fmt.Errorf("asked at %d, may stand at %v\nsent     %x\nreceived %x\nexpected %x", from, places(in), in, out, want)
	}
	if expected := (len(out) - len(in)) / len(goaway); said != expected {
		return fmt.Errorf("told %d times that it was said, expected %d", said, expected)
	}
	return nil
}

// Whatever the frames, the chunks and the moment: the client gets what the server
// sent, and one GOAWAY at the first place from when it was asked for.
func TestTheGoAwayStandsAtTheFirstPlace(t *testing.T) {
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 6))
		in := session(r, 1+r.IntN(30), 1+r.IntN(200), r.IntN(4) == 0)
		asked := r.IntN(len(in) + 1)
		for name, cut := range map[string]func(int) int{
			"bytes":  func(int) int { return 1 },
			"whole":  func(n int) int { return n },
			"random": func(n int) int { return 1 + r.IntN(n) },
			"small":  func(int) int { return 1 + r.IntN(12) },
		} {
			out, from, said := passes(in, asked, cut)
			if err := law(in, out, from, said); err != nil {
				t.Fatalf("seed %d, cut by %s: %v", seed, name, err)
			}
		}
	}
}

// FuzzFollow holds the law for hostile bytes.
func FuzzFollow(f *testing.F) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 7))
		f.Add(session(r, 8, 30, seed%2 == 0), []byte{byte(seed), 1, 200}, uint16(r.IntN(200)))
	}
	for _, in := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"\x00\x00\x00\x04\x00\x00\x00\x01\x02\x00\x08\x00\x12\x00", // ttrpc
		"\x00\x00\x00\x04\x01\x00\x00\x00\x00" + settings,          // an ACK first
		settings + string(goaway) + settings,
		settings + "\x00\x00\x01\x09\x04\x00\x00\x00\x01x" + settings,                                     // CONTINUATION of nothing
		settings + "\x00\x00\x01\x01\x00\x00\x00\x00\x01x" + settings,                                     // a block parted
		settings + "\x00\x00\x01\x01\x00\x00\x00\x00\x01x\x00\x00\x00\x09\x04\x00\x00\x00\x03" + settings, // by another stream
		settings + "\x00\x00\x07\x06\x00\x00\x00\x00\x00" + "1234567" + settings,                          // lengths and streams that cannot be
		settings + "\x00\x00\x08\x06\x00\x00\x00\x00\x01" + "12345678" + settings,
		settings + "\x00\x00\x04\x02\x00\x00\x00\x00\x01" + "1234" + settings,
		settings + "\x00\x00\x05\x03\x00\x00\x00\x00\x01" + "12345" + settings,
		settings + "\x00\x00\x05\x08\x00\x00\x00\x00\x01" + "12345" + settings,
		settings + "\x00\x00\x06\x04\x01\x00\x00\x00\x00" + "123456" + settings,
		settings + "\x00\x00\x01\x00\x00\x00\x00\x00\x00" + "1" + settings,
		settings + "\xff\xff\xff\x00\x00\x00\x00\x00\x01",
		settings + "\x00\x00\x00\x05\x00\x80\x00\x00\x01\x00\x00\x00\x09\x04\x00\x00\x00\x01" + settings,
	} {
		f.Add([]byte(in), []byte{3}, uint16(len(settings)))
		f.Add([]byte(in), []byte{3}, uint16(len(in)))
	}
	f.Fuzz(func(t *testing.T, in, cuts []byte, asked uint16) {
		i := 0
		out, from, said := passes(in, int(asked), func(n int) int {
			if len(cuts) == 0 {
				return n
			}
			i++
			return int(cuts[i%len(cuts)])
		})
		if err := law(in, out, from, said); err != nil {
			t.Error(err)
		}
	})
}

// Where the server's side has ended, or a chunk of it went out in part, there is
// no place any more.
func TestNothingAfterTheEnd(t *testing.T) {
	in := session(rand.New(rand.NewPCG(1, 1)), 3, 10, false)
	for name, end := range map[string]func(*way){
		"an end":          func(w *way) { _ = w.to.CloseWrite() },
		"a failed write":  func(w *way) { w.to.client = failing{}; _, _ = w.to.Write([]byte(settings)); w.to.client = w },
		"a GOAWAY of its": func(w *way) { _ = w.to.ask() },
	} {
		w := newWay()
		_, _ = w.to.Write(in)
		end(w)
		before := w.got.Len()
		if err := w.to.ask(); err != nil || w.got.Len() != before {
			t.Errorf("after %s: inserted, %v", name, err)
		}
	}
}

// failing takes so many bytes of a write and has no memory for the rest.
type failing struct{ takes int }

func (f failing) Write([]byte) (int, error) { return f.takes, unix.ENOBUFS }
func (failing) CloseWrite() error           { return nil }

// A GOAWAY of which a part went out cannot be left so; one of which nothing did
// is left out.
func TestAGoAwayThatCannotBeWritten(t *testing.T) {
	in := session(rand.New(rand.NewPCG(1, 1)), 3, 10, false)
	for takes, want := range map[int]error{0: nil, 5: unix.ENOBUFS} {
		w := newWay()
		_, _ = w.to.Write(in)
		w.to.client = failing{takes}
		if err := w.to.ask(); !errors.Is(err, want) {
			t.Errorf("%d bytes went out at once: %v, expected %v", takes, err, want)
		}
		w = newWay()
		_ = w.to.ask()
		w.to.client = &shortOf{goaway, takes, w}
		_, err := w.to.Write(in)
		if !errors.Is(err, want) || want == nil && !bytes.Equal(w.got.Bytes(), in) {
			t.Errorf("%d bytes went out before a chunk: %v, expected %v", takes, err, want)
		}
	}
}

// shortOf fails for one write and passes all others on.
type shortOf struct {
	what  []byte
	takes int
	outlet
}

func (s *shortOf) Write(p []byte) (int, error) {
	if bytes.Equal(p, s.what) {
		return s.takes, unix.ENOBUFS
	}
	return s.outlet.Write(p)
}

func TestFollowingAllocatesNothing(t *testing.T) {
	w := newWay()
	in := session(rand.New(rand.NewPCG(2, 2)), 200, 200, false)
	w.to.client = sink{}
	if n := testing.AllocsPerRun(100, func() {
		w.to.frames = follower{}
		for p := in; len(p) > 0; p = p[min(len(p), 1000):] {
			_, _ = w.to.Write(p[:min(len(p), 1000)])
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

type sink struct{}

func (sink) Write(p []byte) (int, error) { return len(p), nil }
func (sink) CloseWrite() error           { return nil }

// BenchmarkFollow is what a chunk costs beyond its write: small calls (three
// frames to a chunk), and DATA at 16 KiB a frame.
func BenchmarkFollow(b *testing.B) {
	for name, frame := range map[string]int{"small": 30, "large": 16 << 10} {
		b.Run(name, func(b *testing.B) {
			var p bytes.Buffer
			f := http2.NewFramer(&p, nil)
			_ = f.WriteSettings()
			_ = f.WriteData(1, false, make([]byte, frame))
			_ = f.WriteData(1, false, make([]byte, frame))
			w := newWay()
			w.to.client = sink{}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = w.to.Write(p.Bytes())
			}
		})
	}
}
