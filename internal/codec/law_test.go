package codec

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// replay pushes what was said through a new decoder, each chunk cut by cut,
// and returns everything it told.
func replay(log []chunk, l Limits, cut func(n int) int) string {
	var told []string
	c := NewConn(l, NewBuffers(8<<20), func(k *Call) { told = append(told, tell(k)) })
	c.Began = func(k *Call) {
		var buf bytes.Buffer
		p, whole := k.Request.First[0].Plain(&buf, 1<<20)
		told = append(told, fmt.Sprintf("begun: %d %s %x %v", k.Stream, k.Path, sha256.Sum256(p), whole))
	}
	c.Heed = func(k *Call) Heeder {
		return &heeder{told: func(p []byte) {
			told = append(told, fmt.Sprintf("heeded: %d %s %x", k.Stream, k.Path, sha256.Sum256(p)))
		}}
	}
	for _, k := range log {
		for p := k.data; len(p) > 0; {
			n := min(max(cut(len(p)), 1), len(p))
			// The decoder may keep nothing of what it is lent.
			lent := bytes.Clone(p[:n])
			if err := c.Write(k.side, epoch, lent); err != nil && (len(told) == 0 || told[len(told)-1] != err.Error()) {
				told = append(told, err.Error())
			}
			clear(lent)
			p = p[n:]
		}
	}
	c.Close(epoch)
	if c.buffers.used != 0 || c.held != 0 || c.Running() != 0 {
		told = append(told, fmt.Sprintf("leaked: used %d, held %d, running %d", c.buffers.used, c.held, c.Running()))
	}
	return strings.Join(told, "\n")
}

// heeder tells messages whole.
type heeder struct {
	b    []byte
	told func([]byte)
}

func (h *heeder) Write(p []byte) { h.b = append(h.b, p...) }

func (h *heeder) EndMessage() {
	h.told(h.b)
	h.b = nil
}

// calls are the lines of what was told that are calls.
func calls(told string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(told, "\n"), func(line string) bool {
		return strings.HasPrefix(line, "begun: ") || strings.HasPrefix(line, "heeded: ")
	}), "\n")
}

// Any chunking of the same bytes gives the same calls.
func TestAnyChunkingGivesTheSameCalls(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWire(t).greet()
		session(w, r, 60, 9000)
		w.conn.Close(w.now)
		want := replay(w.log, DefaultLimits(), func(n int) int { return n })
		if w.err != nil || want == "" || calls(want) != strings.Join(w.calls, "\n") || !strings.Contains(want, "heeded: ") {
			t.Fatalf("seed %d: gave up (%v), told nothing, or not the same", seed, w.err)
		}
		for name, cut := range map[string]func(int) int{
			"bytes":  func(int) int { return 1 },
			"whole":  func(n int) int { return n },
			"random": func(n int) int { return 1 + r.IntN(n) },
			"small":  func(int) int { return 1 + r.IntN(12) },
		} {
			if got := replay(w.log, DefaultLimits(), cut); got != want {
				t.Fatalf("seed %d, cut by %s:\n%s\nand at first:\n%s", seed, name, got, want)
			}
		}
	}
}

// session plays calls with everything that a connection may hold.
func session(w *wire, r *rand.Rand, steps, size int) {
	next := uint32(1)
	var open []uint32
	answered := map[uint32]bool{}
	for range steps {
		if len(open) == 0 || r.IntN(4) == 0 {
			w.client.call(next, fmt.Sprintf("/pkg.Service%d/Method", r.IntN(3)), fmt.Sprintf("x-%d: %s", r.IntN(5), strings.Repeat("v", r.IntN(300))))
			open = append(open, next)
			next += 2
			continue
		}
		i := r.IntN(len(open))
		id := open[i]
		switch r.IntN(9) {
		case 0, 1:
			w.client.data(id, r.IntN(3) == 0, message(strings.Repeat("q", r.IntN(size))))
		case 2, 3:
			if !answered[id] {
				w.server.answer(id)
				answered[id] = true
			}
			w.server.data(id, false, append(message("r"), message(strings.Repeat("s", r.IntN(size/3)))...))
		case 4:
			must(w.t, w.server.WriteDataPadded(id, false, message("")[:r.IntN(6)], make([]byte, r.IntN(200))))
			must(w.t, w.server.WritePing(true, [8]byte{}))
			w.server.say()
		case 5:
			must(w.t, w.client.WriteRSTStream(id, http2.ErrCodeCancel))
			w.client.say()
			open = slices.Delete(open, i, i+1)
		case 6:
			must(w.t, w.server.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(r.IntN(10000))}))
			w.server.say()
		default:
			w.server.headers(id, true, ":status: 200", "content-type: application/grpc", fmt.Sprintf("grpc-status: %d", r.IntN(17)), "grpc-message: "+strings.Repeat("%C3%A9", r.IntN(50)))
			open = slices.Delete(open, i, i+1)
		}
	}
}

// script makes chunks of fuzzed bytes: a side, a length, the bytes.
func script(b []byte) []chunk {
	var log []chunk
	for len(b) > 2 {
		n := min(int(b[1])<<1, len(b)-2)
		log = append(log, chunk{Side(b[0] & 1), b[2 : 2+n]})
		b = b[2+n:]
	}
	return log
}

func unscript(log []chunk) []byte {
	var b []byte
	for _, k := range log {
		for p := k.data; len(p) > 0; {
			n := min(len(p), 510) &^ 1
			if n == 0 { // an odd last byte: pad by a PING's reserved bit, i.e. leave it out
				break
			}
			b = append(append(b, byte(k.side), byte(n>>1)), p[:n]...)
			p = p[n:]
		}
	}
	return b
}

func tight() Limits {
	l := DefaultLimits()
	l.Streams, l.KeepMessages, l.KeepBytes, l.ConnBytes = 16, 2, 512, 4096
	l.HeaderBlock, l.HeaderFields = 8192, 4096
	return l
}

// FuzzConn holds the law for hostile bytes: whatever comes, no panic, nothing
// leaks, and the chunking makes no difference.
func FuzzConn(f *testing.F) {
	for seed := range uint64(8) {
		w := newWire(&testing.T{}).greet()
		session(w, rand.New(rand.NewPCG(seed, 2)), 10, 60)
		f.Add(unscript(w.log))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 32<<10 {
			return // longer finds nothing more, only slower
		}
		log := script(b)
		whole := replay(log, tight(), func(n int) int { return n })
		if bytewise := replay(log, tight(), func(int) int { return 1 }); bytewise != whole {
			t.Errorf("whole chunks told:\n%s\nsingle bytes:\n%s", whole, bytewise)
		}
		if strings.Contains(whole, "leaked") {
			t.Error(whole)
		}
	})
}

// FuzzFrames puts hostile frames behind proper prefaces, on both sides.
func FuzzFrames(f *testing.F) {
	f.Add(uint8(1), uint8(0x25), uint32(1), []byte("\x00\x00\x00\x00\x00\x82\x84"), uint8(0), uint8(1), []byte("\x00\x00\x00\x00\x01x"))
	f.Add(uint8(9), uint8(4), uint32(3), []byte{0x3f, 0xe1, 0x1f}, uint8(5), uint8(12), []byte("\x02\x00\x00\x00\x02\x88"))
	f.Add(uint8(4), uint8(0), uint32(0), []byte("\x00\x01\x00\x00\x10\x00"), uint8(7), uint8(0), make([]byte, 8))
	f.Fuzz(func(t *testing.T, typ, flags uint8, id uint32, p []byte, typ2, flags2 uint8, p2 []byte) {
		w := newWire(t).greet()
		w.client.call(1, "/a.B/C")
		must(t, w.client.WriteRawFrame(http2.FrameType(typ), http2.Flags(flags), id, p))
		must(t, w.client.WriteRawFrame(http2.FrameType(typ2), http2.Flags(flags2), id, p2))
		w.client.say()
		must(t, w.server.WriteRawFrame(http2.FrameType(typ), http2.Flags(flags), id, p))
		must(t, w.server.WriteRawFrame(http2.FrameType(typ2), http2.Flags(flags2), id, p2))
		w.server.say()
		whole := replay(w.log, tight(), func(n int) int { return n })
		if bytewise := replay(w.log, tight(), func(int) int { return 1 }); bytewise != whole {
			t.Errorf("whole chunks told:\n%s\nsingle bytes:\n%s", whole, bytewise)
		}
	})
}
