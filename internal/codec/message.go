package codec

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
)

// messageReader follows one direction's gRPC messages: a flag byte, four bytes
// of length, and that many bytes (gRPC over HTTP/2, Length-Prefixed-Message).
type messageReader struct {
	conn     *Conn
	out      *Messages
	encoding string // grpc-encoding of this direction

	head    [5]byte
	headLen int
	left    uint32
	keeping bool // the current message is the last of out.First, and all of it so far is kept
	broken  bool // not gRPC's framing: count nothing any more
	rest    Rest // of the current message, behind what is kept of it
	heeder  Heeder
}

func (r *messageReader) init(c *Conn, out *Messages) { r.conn, r.out = c, out }

// write takes bytes in any chunking.
func (r *messageReader) write(p []byte) {
	for len(p) > 0 && !r.broken {
		if r.headLen < len(r.head) {
			n := copy(r.head[r.headLen:], p)
			r.headLen += n
			p = p[n:]
			if r.headLen == len(r.head) {
				r.begin()
			}
			continue
		}
		n := min(len(p), int(r.left))
		r.keep(p[:n])
		if r.heeder != nil && r.head[0] == 0 {
			r.heeder.Write(p[:n])
		}
		r.out.Bytes += int64(n)
		r.left -= uint32(n)
		p = p[n:]
		r.complete()
	}
}

func (r *messageReader) begin() {
	flag := r.head[0]
	if flag > 1 {
		r.broken = true
		return
	}
	r.left = binary.BigEndian.Uint32(r.head[1:])
	r.keeping = len(r.out.First) < r.conn.limits.KeepMessages
	if r.keeping {
		m := Message{}
		if flag == 1 {
			m.encoding = r.encoding
		}
		r.out.First = append(r.out.First, m)
	}
	r.complete()
}

// complete ends the current message if all of it has passed.
func (r *messageReader) complete() {
	if r.left > 0 {
		return
	}
	r.headLen = 0
	r.rest = nil
	if r.heeder != nil && r.head[0] == 0 {
		r.heeder.EndMessage()
	}
	r.out.Count++
	if r.keeping {
		r.last().whole = true
		r.keeping = false
	}
}

func (r *messageReader) last() *Message { return &r.out.First[len(r.out.First)-1] }

// keep appends to the kept prefix what every bound leaves room for. The first
// byte that finds none is the prefix's end, also if there is room again later:
// behind a hole, the inside of a hidden field would read as fields to show.
func (r *messageReader) keep(p []byte) {
	if r.rest != nil {
		r.rest.Write(p)
	}
	if !r.keeping {
		return
	}
	c, m := r.conn, r.last()
	n := max(0, min(len(p), c.limits.KeepBytes-len(m.data), c.limits.ConnBytes-c.held))
	grown, ok := c.buffers.append(m.data, p[:n])
	if !ok {
		n = 0
	}
	r.keeping = n == len(p)
	if n > 0 {
		m.data = grown
		c.held += n
	}
	if !r.keeping && c.Follow != nil && m.encoding == "" {
		r.rest = c.Follow(m.data)
		r.rest.Write(p[n:])
		m.rest = r.rest
	}
}

// Plain returns the message's bytes, decompressed, at most limit of them, and
// whether that is all of it. The bytes are the message's own or in buf.
func (m *Message) Plain(buf *bytes.Buffer, limit int) (data []byte, whole bool) {
	switch m.encoding {
	case "", "identity":
		return m.data[:min(len(m.data), limit)], m.whole && len(m.data) <= limit
	case "gzip":
	default:
		return nil, false
	}
	buf.Reset()
	z, err := gzip.NewReader(bytes.NewReader(m.data))
	if err != nil {
		return nil, false
	}
	// One byte more than asked tells a message that fits from a cut one. A
	// prefix ends in ErrUnexpectedEOF, having given all that it holds.
	_, err = io.CopyN(buf, z, int64(limit)+1)
	n := min(buf.Len(), limit)
	return buf.Bytes()[:n], m.whole && err == io.EOF
}

// Rest is who was told what is behind Plain's bytes; nil: nobody.
func (m *Message) Rest() Rest { return m.rest }

// Compressed says whether Plain has to decompress.
func (m *Message) Compressed() bool { return m.encoding != "" && m.encoding != "identity" }
