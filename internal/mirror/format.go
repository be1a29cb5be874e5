package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// An event on the wire, integers big-endian:
//
//	length u32  of all that follows it
//	kind   u8
//	conn   u64
//	at     i64  nanoseconds of CLOCK_MONOTONIC
//	…           the kind's fields in Event's order; strings are u16 length, bytes
//
// A chunk's data and a text are last and run to the event's end.
const (
	lengthSize = 4
	headSize   = 1 + 8 + 8
	// MaxEvent bounds the length field. The relay's reads are far smaller; a
	// larger length is not ours.
	MaxEvent = 1 << 20
	// MaxChunk is the longest data one chunk may hold, in bytes.
	MaxChunk = MaxEvent - headSize - 1
	// maxString bounds a path or a text, in bytes; longer ones are cut.
	maxString = 4096
)

// ErrFormat is wrapped by every error that says the stream is not ours or is
// damaged. There is no going on after it.
var ErrFormat = errors.New("not a mirror stream")

// appendEvent appends e without a chunk's data, the length already counting
// dataLen bytes that the caller puts behind it.
func appendEvent(b []byte, e *Event, dataLen int) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, byte(e.Kind))
	b = binary.BigEndian.AppendUint64(b, e.Conn)
	b = binary.BigEndian.AppendUint64(b, uint64(e.At.UnixNano()))
	switch e.Kind {
	case KindHello:
		b = binary.BigEndian.AppendUint16(b, e.Hello.Version)
		b = binary.BigEndian.AppendUint32(b, e.Hello.PID)
		b = appendString(b, e.Hello.Listen)
		b = appendString(b, e.Hello.Upstream)
	case KindOpen, KindOld:
		b = binary.BigEndian.AppendUint32(b, e.Peers.ClientPID)
		b = binary.BigEndian.AppendUint32(b, e.Peers.ServerPID)
		b = appendString(b, e.Peers.ClientExe)
		b = appendString(b, e.Peers.ServerExe)
	case KindChunk, KindEnd:
		b = append(b, byte(e.Dir))
	case KindBlind, KindClose, KindMissed:
		b = binary.BigEndian.AppendUint64(b, e.Totals.FromClient)
		b = binary.BigEndian.AppendUint64(b, e.Totals.FromServer)
		b = binary.BigEndian.AppendUint64(b, e.Totals.Dropped)
	}
	if e.Kind == KindDetached || e.Kind == KindMissed {
		b = binary.BigEndian.AppendUint32(b, e.Count)
	}
	if e.hasText() {
		b = append(b, e.Text[:min(len(e.Text), maxString)]...)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-lengthSize+dataLen))
	return b
}

func (e *Event) hasText() bool {
	return e.Kind == KindServing || e.Kind == KindClose || e.Kind == KindAway
}

func appendString(b []byte, s string) []byte {
	s = s[:min(len(s), maxString)]
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// parseEvent reads one event's bytes, the length excluded. Data aliases b.
func parseEvent(b []byte) (Event, error) {
	if len(b) < headSize {
		return Event{}, fmt.Errorf("%w: event of %d bytes", ErrFormat, len(b))
	}
	f := fields{rest: b[1:]}
	e := Event{Kind: Kind(b[0]), Conn: f.u64(), At: time.Unix(0, int64(f.u64()))}
	switch e.Kind {
	case KindHello:
		e.Hello = Hello{Version: f.u16(), PID: f.u32(), Listen: f.str(), Upstream: f.str()}
	case KindOpen, KindOld:
		e.Peers.ClientPID, e.Peers.ServerPID = f.u32(), f.u32()
		e.Peers.ClientExe, e.Peers.ServerExe = f.str(), f.str()
	case KindChunk, KindEnd:
		e.Dir = Dir(f.u8())
		if e.Dir > FromServer {
			return Event{}, fmt.Errorf("%w: direction %d", ErrFormat, e.Dir)
		}
	case KindBlind, KindClose, KindMissed:
		e.Totals = Totals{FromClient: f.u64(), FromServer: f.u64(), Dropped: f.u64()}
	case KindDetached, KindServing, KindAway, KindOver:
	default:
		return Event{}, fmt.Errorf("%w: event kind %d", ErrFormat, e.Kind)
	}
	if e.Kind == KindDetached || e.Kind == KindMissed {
		e.Count = f.u32()
	}
	switch {
	case f.short:
		return Event{}, fmt.Errorf("%w: event of kind %d ends early", ErrFormat, e.Kind)
	case e.Kind == KindChunk:
		e.Data = f.rest
	case e.hasText():
		e.Text = string(f.rest)
	case len(f.rest) > 0:
		return Event{}, fmt.Errorf("%w: %d bytes too many in an event of kind %d", ErrFormat, len(f.rest), e.Kind)
	}
	return e, nil
}

// fields takes integers and strings off the front of an event; short is set
// once one was not there whole, and all that follow are zero.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if f.short || len(f.rest) < n {
		f.short = true
		return make([]byte, min(n, 8))
	}
	p := f.rest[:n]
	f.rest = f.rest[n:]
	return p
}

func (f *fields) u8() uint8   { return f.take(1)[0] }
func (f *fields) u16() uint16 { return binary.BigEndian.Uint16(f.take(2)) }
func (f *fields) u32() uint32 { return binary.BigEndian.Uint32(f.take(4)) }
func (f *fields) u64() uint64 { return binary.BigEndian.Uint64(f.take(8)) }

func (f *fields) str() string {
	n := int(f.u16())
	if f.short || len(f.rest) < n {
		f.short = true
		return ""
	}
	return string(f.take(n))
}
