package codec

import (
	"encoding/binary"
	"time"

	"golang.org/x/net/http2"
)

// preface is what every HTTP/2 client sends first (RFC 9113 §3.4).
const preface = http2.ClientPreface

const frameHead = 9

// half is one direction's place in its sequence of frames. A frame's payload is
// a prelude (pad length, priority, promised stream: whatever comes before what
// matters), a body, and padding; the body is handed on as it comes.
type half struct {
	conn *Conn
	side Side

	matched  int // bytes of the preface, for the client
	settled  bool
	head     [frameHead]byte
	headLen  int
	frame    http2.FrameHeader
	prelude  [6]byte
	want     int // length of this frame's prelude
	have     int
	body     int // bytes left of it
	padding  int
	maxFrame uint32 // what the receiver of these frames said it takes

	small []byte // bodies of frames of a few bytes
	headerBlock
}

func (h *half) init(c *Conn, s Side) {
	h.conn, h.side = c, s
	h.maxFrame = 16 << 10 // RFC 9113 §6.5.2
	if s == Server {
		h.matched = len(preface)
	}
	h.headerBlock.init(c.limits)
}

func bad(token string) *GaveUp { return &GaveUp{Token: token} }

// write takes bytes in any chunking.
func (h *half) write(at time.Time, p []byte) *GaveUp {
	for len(p) > 0 && h.matched < len(preface) {
		if p[0] != preface[h.matched] {
			return &GaveUp{Token: "no_preface", Opaque: true}
		}
		h.matched++
		p = p[1:]
	}
	for len(p) > 0 {
		if h.headLen < frameHead {
			n := copy(h.head[h.headLen:], p)
			h.headLen += n
			p = p[n:]
			if h.headLen < frameHead {
				return nil
			}
			if g := h.begin(); g != nil {
				return g
			}
		}
		n, g := h.payload(at, p)
		if g != nil {
			return g
		}
		p = p[n:]
		if h.have == h.want && h.body == 0 && h.padding == 0 {
			h.headLen = 0
			if g := h.end(at); g != nil {
				return g
			}
		}
	}
	return nil
}

// begin looks at a frame's header.
func (h *half) begin() *GaveUp {
	b := h.head[:]
	h.frame = http2.FrameHeader{
		Length:   uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]),
		Type:     http2.FrameType(b[3]),
		Flags:    http2.Flags(b[4]),
		StreamID: binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1),
	}
	f := h.frame
	if !h.settled {
		// Each side's first frame is SETTINGS (§3.4); a server that speaks
		// something else is seen here.
		if f.Type != http2.FrameSettings || f.Flags.Has(http2.FlagSettingsAck) || f.StreamID != 0 {
			return &GaveUp{Token: "no_settings", Opaque: true}
		}
		h.settled = true
	}
	if f.Length > h.maxFrame {
		return bad("frame_too_large")
	}
	if g := h.headerBlock.admit(f); g != nil {
		return g
	}
	h.want, h.have, h.padding = preludeSize(f), 0, 0
	h.body = int(f.Length) - h.want
	if h.body < 0 {
		return bad("frame_too_short")
	}
	h.small = h.small[:0]
	return nil
}

// preludeSize: RFC 9113 §6.1, §6.2, §6.6. HEADERS may be padded and then have
// a priority, in this order.
func preludeSize(f http2.FrameHeader) int {
	n := 0
	padded := f.Flags.Has(http2.FlagDataPadded) // the same bit in all three
	switch f.Type {
	case http2.FrameData:
	case http2.FrameHeaders:
		if f.Flags.Has(http2.FlagHeadersPriority) {
			n = 5
		}
	case http2.FramePushPromise:
		n = 4
	default:
		return 0
	}
	if padded {
		n++
	}
	return n
}

// payload takes the next bytes of the current frame and says how many.
func (h *half) payload(at time.Time, p []byte) (int, *GaveUp) {
	n := 0
	if h.have < h.want {
		n = copy(h.prelude[h.have:h.want], p)
		h.have += n
		if h.have < h.want {
			return n, nil
		}
		if h.frame.Flags.Has(http2.FlagDataPadded) {
			h.padding = int(h.prelude[0])
			if h.padding > h.body {
				return n, bad("pad_too_big")
			}
			h.body -= h.padding
		}
	}
	if k := min(h.body, len(p)-n); k > 0 {
		if g := h.take(at, p[n:n+k]); g != nil {
			return n, g
		}
		h.body -= k
		n += k
	}
	if k := min(h.padding, len(p)-n); h.body == 0 && k > 0 {
		h.padding -= k
		n += k
	}
	return n, nil
}

// take hands on bytes of the current frame's body.
func (h *half) take(at time.Time, p []byte) *GaveUp {
	switch h.frame.Type {
	case http2.FrameData:
		h.conn.data(h.side, h.frame.StreamID, p)
	case http2.FrameHeaders, http2.FrameContinuation, http2.FramePushPromise:
		return h.headerBlock.add(p)
	case http2.FrameSettings:
		h.settings(p)
	case http2.FrameRSTStream, http2.FrameGoAway:
		// 4 and 8 bytes; a GOAWAY's debug data is let go.
		h.small = append(h.small, p[:min(len(p), 8-len(h.small))]...)
	}
	return nil // PING, WINDOW_UPDATE, PRIORITY, and types unknown (§5.5)
}

// settings takes entries of six bytes (§6.5.1), however they are split.
func (h *half) settings(p []byte) {
	for len(p) > 0 {
		k := min(len(p), 6-len(h.small))
		h.small = append(h.small, p[:k]...)
		p = p[k:]
		if len(h.small) < 6 {
			return
		}
		id := http2.SettingID(binary.BigEndian.Uint16(h.small))
		v := binary.BigEndian.Uint32(h.small[2:])
		h.small = h.small[:0]
		// What one side announces binds the other. A lowered limit takes effect
		// when it is acknowledged; until then, and for us always, the larger one
		// holds: to refuse is the peers' business, ours is to follow.
		peer := h.conn.half(1 - h.side)
		switch id {
		case http2.SettingMaxFrameSize:
			peer.maxFrame = max(peer.maxFrame, min(v, 1<<24-1))
		case http2.SettingHeaderTableSize:
			peer.headerBlock.allow(v)
		}
	}
}

// end acts on a frame that is complete.
func (h *half) end(at time.Time) *GaveUp {
	f := h.frame
	c := h.conn
	switch f.Type {
	case http2.FrameData:
		if f.Flags.Has(http2.FlagDataEndStream) {
			c.endStream(h.side, f.StreamID, at)
		}
	case http2.FrameHeaders, http2.FrameContinuation, http2.FramePushPromise:
		if !f.Flags.Has(http2.FlagHeadersEndHeaders) {
			return nil
		}
		fields, g := h.headerBlock.decode()
		if g != nil {
			return g
		}
		if b := &h.headerBlock; !b.promised {
			c.headers(h.side, b.stream, b.endStream, at, fields)
		}
	case http2.FrameSettings:
		if len(h.small) > 0 {
			return bad("settings_size")
		}
	case http2.FrameRSTStream:
		if f.Length != 4 {
			return bad("rst_stream_size")
		}
		c.reset(h.side, f.StreamID, at, http2.ErrCode(binary.BigEndian.Uint32(h.small)))
	case http2.FrameGoAway:
		if f.Length < 8 {
			return bad("goaway_size")
		}
		if h.side == Server {
			c.loseAbove(at, binary.BigEndian.Uint32(h.small)&(1<<31-1),
				"the server went away without processing it (GOAWAY); the client retries on another connection")
		}
	}
	return nil
}
