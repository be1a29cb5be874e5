// Package codec turns the two directions of a connection's bytes into calls:
// HTTP/2 (RFC 9113), HPACK (RFC 7541) and gRPC's framing, pushed in whatever
// chunks they were read in.
//
// Its rules: it does no I/O and asks no clock, time is an argument; any
// chunking of the same bytes gives the same calls; it keeps step while it skips
// what is over a bound; it gives up on a connection, with a reason, and never
// on the process. It is not safe for concurrent use.
package codec

import "time"

// Side is who sent the bytes.
type Side uint8

const (
	Client Side = iota
	Server
)

// Call is one HTTP/2 stream that carried a gRPC call, as the wire had it.
type Call struct {
	Stream     uint32
	Start, End time.Time
	Path       string // ":path", "/package.Service/Method"

	// From the request's headers; no other metadata is kept.
	Timeout     time.Duration // grpc-timeout; 0: none
	Traceparent string
	Tracestate  string

	Request, Response Messages

	// Lost: the stream never ended as far as could be seen. Then there is no
	// code and Message says how it was lost.
	Lost bool
	// Code is a gRPC status code: the server's, or what gRPC's protocol
	// document maps the end of this stream to. Message is the server's text,
	// percent-decoded, or our words for an end without one.
	Code    uint32
	Message string
	// Details is the server's grpc-status-details-bin, a google.rpc.Status; nil
	// where there is none, or it is longer than 48 KiB.
	Details []byte
}

// Messages is what one direction of a call carried.
type Messages struct {
	Count int64 // whole messages
	Bytes int64 // of messages, without the five-byte prefixes, as sent
	First []Message
}

// Message is the beginning of one message. Its bytes are valid only while the
// call is handed over.
type Message struct {
	data     []byte
	encoding string // "" as is, else the grpc-encoding it is compressed with
	whole    bool
	rest     Rest
}

// Rest is told the bytes of a message behind what is kept of it, in any chunks.
type Rest interface{ Write([]byte) }

// Heeder is told a response's messages as they pass, whole and in any chunks: of
// a list that is longer than what is kept, of a stream that never ends. Bytes are
// the codec's again when Write returns.
type Heeder interface {
	Write([]byte)
	EndMessage()
}

// Limits bound what one connection may hold. The zero value of a field is not
// a default: start from DefaultLimits.
type Limits struct {
	Streams      int // open calls; further ones pass undecoded
	KeepMessages int // first messages kept of each direction of a call
	KeepBytes    int // bytes kept of a message
	ConnBytes    int // bytes kept by all calls of a connection
	Heeded       int // open calls whose responses are heeded, each of whom may keep an entry of a list
	HeaderBlock  int // compressed bytes of a header block; a longer one ends decoding
	HeaderFields int // decoded bytes of a header block; beyond, only HPACK's state is kept
	TableSize    uint32
}

// DefaultLimits fit the kubelet's traffic: 9 KB error messages, 12 KB trailers,
// a RunPodSandbox with all its annotations.
func DefaultLimits() Limits {
	return Limits{
		Streams:      10_000,
		KeepMessages: 8,
		KeepBytes:    64 << 10,
		ConnBytes:    4 << 20,
		Heeded:       256,
		HeaderBlock:  1 << 20,
		HeaderFields: 256 << 10,
		TableSize:    1 << 20,
	}
}

// GaveUp is why a connection is not decoded any further.
type GaveUp struct {
	// Token is stable and fit for a metric's label.
	Token string
	// Opaque: the connection never spoke HTTP/2, so nothing was missed.
	Opaque bool
}

func (g *GaveUp) Error() string {
	if g.Opaque {
		return "not HTTP/2 (" + g.Token + ")"
	}
	return "cannot decode any further (" + g.Token + ")"
}
