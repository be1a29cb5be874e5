package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"
)

// places finds where in a server's bytes a GOAWAY may stand: the rules of
// goaway.go over a whole connection at once, chunks unknown.
func places(in []byte) []int {
	var all []int
	block := uint32(0)
	for at := 0; len(in)-at >= headerSize; {
		h := in[at : at+headerSize]
		length, kind, flags := int(h[0])<<16|int(h[1])<<8|int(h[2]), http2.FrameType(h[3]), http2.Flags(h[4])
		stream := uint32(h[5]&0x7f)<<24 | uint32(h[6])<<16 | uint32(h[7])<<8 | uint32(h[8])
		switch {
		case at == 0 && (kind != http2.FrameSettings || flags != 0 || stream != 0 || length%6 != 0 || length > 600):
			return nil
		case kind == http2.FrameGoAway, (kind == http2.FrameContinuation) != (block != 0), block != 0 && block != stream:
			return all
		case slices.Contains([]http2.FrameType{http2.FrameData, http2.FrameHeaders, http2.FramePriority, http2.FrameRSTStream, http2.FramePushPromise, http2.FrameContinuation}, kind) && stream == 0:
			return all
		case slices.Contains([]http2.FrameType{http2.FrameSettings, http2.FramePing}, kind) && stream != 0:
			return all
		case kind == http2.FrameSettings && (length%6 != 0 || flags&1 != 0 && length != 0):
			return all
		}
		if fixed, ok := map[http2.FrameType]int{http2.FramePriority: 5, http2.FrameRSTStream: 4, http2.FramePing: 8, http2.FrameWindowUpdate: 4}[kind]; ok && length != fixed {
			return all
		}
		if slices.Contains([]http2.FrameType{http2.FrameHeaders, http2.FramePushPromise, http2.FrameContinuation}, kind) {
			if block = stream; flags&4 != 0 {
				block = 0
			}
		}
		if at += headerSize + length; at > len(in) {
			return all
		}
		if block == 0 {
			all = append(all, at)
		}
	}
	return all
}

// session is what a server may say: everything that HTTP/2 has.
func session(r *rand.Rand, frames, size int, bye bool) []byte {
	var out bytes.Buffer
	f := http2.NewFramer(&out, nil)
	f.AllowIllegalWrites = true
	var settings []http2.Setting
	for range r.IntN(4) {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16384})
	}
	var err error
	keep := func(e error) { err = errors.Join(err, e) }
	keep(f.WriteSettings(settings...))
	last := -1
	if bye {
		last = r.IntN(frames)
	}
	for i := range frames {
		id := uint32(1 + 2*r.IntN(20))
		p := make([]byte, r.IntN(size))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		if i == last {
			keep(f.WriteGoAway(1<<31-1, http2.ErrCodeNo, p[:min(len(p), 20)]))
			continue
		}
		switch r.IntN(9) {
		case 0, 1:
			keep(f.WriteData(id, r.IntN(2) == 0, p))
		case 2, 3:
			if r.IntN(2) == 0 {
				keep(f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p, EndHeaders: true}))
				continue
			}
			keep(f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p}))
			for range r.IntN(3) {
				keep(f.WriteContinuation(id, false, p[:r.IntN(len(p)+1)]))
			}
			keep(f.WriteContinuation(id, true, p[:r.IntN(len(p)+1)]))
		case 4:
			keep(f.WritePing(r.IntN(2) == 0, [8]byte{}))
		case 5:
			keep(f.WriteWindowUpdate(id&^1*uint32(r.IntN(2)), 1+r.Uint32N(1000)))
		case 6:
			keep(f.WriteSettingsAck())
		case 7:
			keep(f.WriteRSTStream(id, http2.ErrCodeCancel))
		default:
			// What looks like our frame inside another is not one.
			keep(f.WriteRawFrame(http2.FrameType(0x20+r.IntN(3)), http2.Flags(r.IntN(256)), id, append(p, goaway...)))
		}
	}
	if err != nil {
		panic(err)
	}
	return out.Bytes()
}

// The reference is itself held against x/net's framer, which refuses what may
// not follow what.
func TestPlacesAreWhereTheFramerFindsThem(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 5))
		in := session(r, 1+r.IntN(40), 300, r.IntN(3) == 0)
		rest := bytes.NewReader(in)
		framer := http2.NewFramer(io.Discard, rest)
		var want []int
		open := false
		for {
			f, err := framer.ReadFrame()
			if errors.Is(err, io.EOF) || err == nil && f.Header().Type == http2.FrameGoAway {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			switch f.Header().Type {
			case http2.FrameHeaders, http2.FrameContinuation:
				open = !f.Header().Flags.Has(http2.FlagHeadersEndHeaders)
			}
			if !open {
				want = append(want, len(in)-rest.Len())
			}
		}
		if got := places(in); !slices.Equal(got, want) {
			t.Fatalf("seed %d: places %v, by the framer %v", seed, got, want)
		}
	}
}

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
