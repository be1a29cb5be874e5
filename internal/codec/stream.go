package codec

import (
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// stream is one open call.
type stream struct {
	call          Call
	begun         bool // Began was told
	answered      bool // the response's headers have passed
	request, back messageReader
	first         [2]Message // room for Request.First and Response.First: most have one
}

// headers acts on a decoded header block.
func (c *Conn) headers(side Side, id uint32, end bool, at time.Time, f *fields) {
	s := c.streams[id]
	if side == Client {
		if s == nil {
			c.open(id, at, f)
		} // else request trailers, which gRPC does not have
		return
	}
	if s == nil {
		return // refused by a limit, no gRPC, or over already
	}
	switch {
	case end:
		s.call.Code, s.call.Message = statusOf(f, s.answered)
		s.call.Details = decodeDetails(f.details)
		c.finish(s, at)
	case s.answered:
		// A second block amid the stream is not gRPC; the client resets it.
	case informational(f.status):
		// 1xx: the response's own headers are still to come (RFC 9113 §8.1).
	case !isGRPC(f.contentType):
		// Its body is for people. The client makes a status of these headers.
		s.call.Code, s.call.Message = statusOf(f, false)
		c.finish(s, at)
	default:
		s.answered = true
		s.back.encoding = f.encoding
		c.heed(s)
	}
}

// heed asks who heeds the response, if there is room for one more.
func (c *Conn) heed(s *stream) {
	if c.Heed == nil || c.heeded >= c.limits.Heeded {
		return
	}
	if s.back.heeder = c.Heed(&s.call); s.back.heeder != nil {
		c.heeded++
	}
}

func informational(status string) bool {
	return len(status) == 3 && status[0] == '1'
}

// open begins a call, if these are the headers of one.
func (c *Conn) open(id uint32, at time.Time, f *fields) {
	if id%2 == 0 || id <= c.lastStream {
		return // of a stream that is over (trailers after a reset), or never was
	}
	c.lastStream = id
	if f.path == "" || !isGRPC(f.contentType) {
		return
	}
	if len(c.streams) >= c.limits.Streams {
		c.overLimit++
		return
	}
	s := &stream{call: Call{
		Stream: id, Start: at, Path: f.path, Timeout: parseTimeout(f.timeout),
		Traceparent: f.traceparent, Tracestate: f.tracestate,
	}}
	s.call.Request.First, s.call.Response.First = s.first[:0:1], s.first[1:1:2]
	s.request.init(c, &s.call.Request)
	s.request.encoding = f.encoding
	s.back.init(c, &s.call.Response)
	c.streams[id] = s
}

// isGRPC: the content-type is application/grpc, or has it as a prefix before
// "+proto" or ";" (gRPC over HTTP/2, Requests).
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(contentType), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// data takes bytes of a DATA frame.
func (c *Conn) data(side Side, id uint32, p []byte) {
	s := c.streams[id]
	switch {
	case s == nil:
	case side == Client:
		s.request.write(p)
		if !s.begun && s.call.Request.Count > 0 {
			s.begun = true
			if c.Began != nil {
				c.Began(&s.call)
			}
		}
	default:
		s.back.write(p)
	}
}

// endStream acts on END_STREAM of a DATA frame: a client's only ends its
// request, a server's ends the call without the trailers that gRPC wants.
func (c *Conn) endStream(side Side, id uint32, at time.Time) {
	s := c.streams[id]
	if s == nil || side == Client {
		return
	}
	s.call.Code, s.call.Message = codeInternal, "server closed the stream without sending trailers"
	c.finish(s, at)
}

// reset acts on RST_STREAM, from either side.
func (c *Conn) reset(side Side, id uint32, at time.Time, code http2.ErrCode) {
	s := c.streams[id]
	if s == nil {
		return // after the end, as NO_ERROR from a server that is done early
	}
	s.call.Code, s.call.Message = resetStatus(side, code, at.Sub(s.call.Start), s.call.Timeout)
	c.finish(s, at)
}
