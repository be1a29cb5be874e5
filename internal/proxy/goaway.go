package proxy

// The one exception to "bytes pass unchanged": a GOAWAY frame toward a client,
// which has it begin no new call on this connection, finish those that run, and
// dial the path anew. The mirror does not carry it: it tells what the two sides
// said.
//
// Its rules:
//   - To know where a frame of the server's ends, the nine-byte frame headers
//     toward the client are followed. Nothing else is read, and nothing at all in
//     the other direction.
//   - It stands between two frames; after the server's SETTINGS, which must be
//     the first of them and has passed whole; in no header block, whose frames
//     nothing may part (RFC 9113, 4.3); and before the end of the server's side.
//   - It is said once, and not where the server said one: a later one with a
//     higher stream id is a connection error to the client. It excludes no stream
//     (last id 2^31-1) and blames nobody (NO_ERROR).
//   - Where what passes is not certain to be HTTP/2 (HTTP/1.1 on CRI-O's socket,
//     ttrpc, a sequence that cannot be), nothing is inserted any more.

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
)

// goaway is the frame: 8 bytes, of type GOAWAY, without flags, on stream 0;
// last stream id 2^31-1, NO_ERROR, no debug data.
var goaway = []byte{0, 0, 8, frameGoAway, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}

// GoAway is the frame, for who says it past a relay (live attach).
func GoAway() []byte { return slices.Clone(goaway) }

// outlet is where one direction's bytes go.
type outlet interface {
	Write(p []byte) (int, error)
	CloseWrite() error
}

// toClient is the way to a client. What goes there goes under mu, so that a
// GOAWAY finds its place between two chunks or within one.
type toClient struct {
	client outlet
	told   func() // called once, before the GOAWAY is written

	mu     sync.Mutex
	frames follower
	asked  bool // a GOAWAY is to be said
}

// Write passes a chunk of the server's on, and before or within it the GOAWAY
// that was asked for while there was no place for it.
func (t *toClient) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := 0
	if t.asked {
		var ok bool
		if at, ok = t.frames.place(p); ok {
			if n, err := t.pass(p[:at]); err != nil {
				return n, err
			}
			if err := t.insert(); err != nil || at == len(p) {
				return at, err
			}
		}
	}
	n, err := t.pass(p[at:])
	return at + n, err
}

// CloseWrite passes the end of the server's side on.
func (t *toClient) CloseWrite() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frames.over = true
	return t.client.CloseWrite()
}

// ask has the GOAWAY said: now, if there is a place for it, or by a later Write.
// It waits where the client's next chunk would: for the one that is being
// written, and for a client that has no room. An error means that a part of the
// frame went out and the rest cannot.
func (t *toClient) ask() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = true
	if !t.frames.between() {
		return nil
	}
	return t.insert()
}

func (t *toClient) pass(p []byte) (int, error) {
	t.frames.pass(p)
	n, err := t.client.Write(p)
	if err != nil {
		t.frames.over = true // within the chunk, nobody knows where
	}
	return n, err
}

// insert writes the frame. What it wrote nothing of is no loss: the connection
// goes on without, and its next chunk meets the same trouble in its own right.
func (t *toClient) insert() error {
	t.asked, t.frames.over = false, true
	t.told()
	n, err := t.client.Write(goaway)
	if err == nil || n == 0 {
		return nil
	}
	return fmt.Errorf("within a GOAWAY: %w", err)
}

// Frame types and flags of RFC 9113, 6.
const (
	frameData = iota
	frameHeaders
	framePriority
	frameRSTStream
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation

	flagAck        = 0x1
	flagEndHeaders = 0x4

	headerSize  = 9
	settingSize = 6
	// maxSettings is more than any server has to say in its first frame.
	maxSettings = 100 * settingSize
)

// follower knows where in the server's bytes a frame ends.
type follower struct {
	over    bool // a GOAWAY has passed, the side has ended, or it is no longer sure
	greeted bool // the first frame is SETTINGS
	have    uint8
	left    uint32 // bytes of a frame's payload to come
	block   uint32 // the stream whose header block is open; 0: none is
	header  [headerSize]byte
}

// between says whether a GOAWAY may stand here.
func (f *follower) between() bool {
	return f.greeted && f.have == 0 && f.left == 0 && f.block == 0 && !f.over
}

// place finds the first place in p, its end included, where a GOAWAY may stand.
// It follows nothing: that is for when the bytes pass.
func (f follower) place(p []byte) (at int, ok bool) {
	for !f.between() {
		if f.over || at == len(p) {
			return 0, false
		}
		at += f.step(p[at:])
	}
	return at, true
}

// pass follows p.
func (f *follower) pass(p []byte) {
	for len(p) > 0 && !f.over {
		p = p[f.step(p):]
	}
}

// step follows p to the end of a frame's header or payload, at the furthest.
func (f *follower) step(p []byte) int {
	if f.left > 0 {
		n := min(len(p), int(f.left))
		f.left -= uint32(n)
		return n
	}
	n := copy(f.header[f.have:], p)
	f.have += uint8(n)
	if f.have == headerSize {
		f.have = 0
		f.begin()
	}
	return n
}

// begin looks at a frame's header.
func (f *follower) begin() {
	h := f.header[:]
	length := uint32(h[0])<<16 | uint32(h[1])<<8 | uint32(h[2])
	kind, flags := h[3], h[4]
	stream := binary.BigEndian.Uint32(h[5:]) &^ (1 << 31) // a reserved bit
	f.left = length
	switch {
	case !f.greeted:
		f.greeted = kind == frameSettings && flags == 0 && stream == 0 && length%settingSize == 0 && length <= maxSettings
		f.over = !f.greeted
		return
	case kind == frameGoAway, !possible(kind, flags, length, stream):
		f.over = true
		return
	case (kind == frameContinuation) != (f.block != 0), f.block != 0 && f.block != stream:
		f.over = true // a header block is parted, or continued without one
		return
	}
	switch kind {
	case frameHeaders, framePushPromise, frameContinuation:
		f.block = stream
		if flags&flagEndHeaders != 0 {
			f.block = 0
		}
	}
}

// possible says whether a frame may have this length and stream. Types that
// RFC 9113 doesn't know pass as they are.
func possible(kind, flags byte, length, stream uint32) bool {
	switch kind {
	case frameData, frameHeaders, framePushPromise, frameContinuation:
		return stream != 0
	case framePriority:
		return stream != 0 && length == 5
	case frameRSTStream:
		return stream != 0 && length == 4
	case frameSettings:
		return stream == 0 && length%settingSize == 0 && (flags&flagAck == 0 || length == 0)
	case framePing:
		return stream == 0 && length == 8
	case frameWindowUpdate:
		return length == 4
	}
	return true
}
