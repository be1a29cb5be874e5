package proxy

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/http2"
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
