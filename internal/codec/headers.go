package codec

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxContinuations bounds the frames of a header block: each costs nine bytes
// that the block's own bound does not count.
const maxContinuations = 1024

// What is kept of a field, in bytes. tracestate's bound is W3C's; the others
// are longer than any proper value.
const (
	maxPath        = 1024
	maxMessage     = 64 << 10
	maxTracestate  = 512
	maxTraceparent = 128
	maxShort       = 64
	maxDetails     = 64 << 10 // as base64
)

// withheld stands for a value that its sender marked as never to be indexed
// (RFC 7541 §7.1.3): it is a secret to it.
const withheld = "‹withheld›"

// upTo is the beginning of a value. Of a longer one it is a copy: an open call
// holds what it keeps for days.
func upTo(n int, value string) string {
	if len(value) <= n {
		return value
	}
	return strings.Clone(value[:n])
}

// headerBlock gathers one direction's header blocks and decodes each, in wire
// order, whatever becomes of its stream: the table must keep step.
type headerBlock struct {
	limits    Limits
	stream    uint32
	endStream bool
	promised  bool // a PUSH_PROMISE's: decoded for the table's sake only
	open      bool // CONTINUATION must follow
	frames    int
	bytes     []byte

	table   *hpack.Decoder
	allowed uint32 // what a size update may ask for
	fields  fields
	decoded int // bytes of names and values in this block
}

func (b *headerBlock) init(l Limits) {
	b.limits = l
	b.allowed = 4096 // RFC 9113 §6.5.2
	b.table = hpack.NewDecoder(b.allowed, b.emit)
}

// allow is the peer's SETTINGS_HEADER_TABLE_SIZE. It permits a larger table; the
// encoder asks for one by a size update.
func (b *headerBlock) allow(v uint32) {
	b.allowed = max(b.allowed, min(v, b.limits.TableSize))
	b.table.SetAllowedMaxDynamicTableSize(b.allowed)
}

// admit sees each frame's header: a block's frames may not be interleaved with
// any other (RFC 9113 §4.3).
func (b *headerBlock) admit(f http2.FrameHeader) *GaveUp {
	switch {
	case f.Type == http2.FrameContinuation:
		if !b.open || f.StreamID != b.stream {
			return bad("continuation_unexpected")
		}
		if b.frames++; b.frames > maxContinuations {
			return bad("continuation_flood")
		}
	case b.open:
		return bad("continuation_missing")
	case f.Type == http2.FrameHeaders, f.Type == http2.FramePushPromise:
		if f.StreamID == 0 {
			return bad("headers_on_stream_0")
		}
		b.stream, b.frames, b.bytes = f.StreamID, 0, b.bytes[:0]
		b.promised = f.Type == http2.FramePushPromise
		b.endStream = !b.promised && f.Flags.Has(http2.FlagHeadersEndStream)
	default:
		return nil
	}
	b.open = !f.Flags.Has(http2.FlagHeadersEndHeaders)
	return nil
}

func (b *headerBlock) add(p []byte) *GaveUp {
	if len(b.bytes)+len(p) > b.limits.HeaderBlock {
		return bad("header_block_too_big")
	}
	b.bytes = append(b.bytes, p...)
	return nil
}

// decode reads the gathered block. A broken block leaves the table unknown, so
// it ends the connection's decoding.
func (b *headerBlock) decode() (*fields, *GaveUp) {
	b.fields = fields{}
	b.decoded = 0
	b.table.SetEmitEnabled(true)
	rest, g := b.sizeUpdates(b.bytes)
	if g != nil {
		return nil, g
	}
	if _, err := b.table.Write(rest); err != nil {
		return nil, bad("hpack")
	}
	if err := b.table.Close(); err != nil {
		return nil, bad("hpack_truncated")
	}
	if cap(b.bytes) > 16<<10 {
		b.bytes = nil
	}
	return &b.fields, nil
}

// sizeUpdates applies the dynamic table size updates that may stand at a
// block's start, one or several (RFC 7541 §4.2); hpack.Decoder takes a second
// one only if the first emptied the table.
func (b *headerBlock) sizeUpdates(p []byte) ([]byte, *GaveUp) {
	for len(p) > 0 && p[0]&0xe0 == 0x20 {
		v := uint64(p[0] & 0x1f)
		p = p[1:]
		if v == 0x1f { // §5.1: the rest in groups of seven bits
			for shift := 0; ; shift += 7 {
				if len(p) == 0 || shift > 28 {
					return nil, bad("hpack_size_update")
				}
				c := p[0]
				p = p[1:]
				v += uint64(c&0x7f) << shift
				if c&0x80 == 0 {
					break
				}
			}
		}
		if v > uint64(b.allowed) {
			return nil, bad("hpack_table_too_large")
		}
		b.table.SetMaxDynamicTableSize(uint32(v))
	}
	return p, nil
}

func (b *headerBlock) emit(f hpack.HeaderField) {
	b.decoded += len(f.Name) + len(f.Value)
	if b.decoded > b.limits.HeaderFields {
		b.table.SetEmitEnabled(false)
		return
	}
	if f.Sensitive {
		b.fields.setSensitive(f.Name, f.Value)
		return
	}
	b.fields.set(f.Name, f.Value)
}

// fields are what is wanted of a header block. All other metadata, tokens among
// it, is let go here and is nowhere else.
type fields struct {
	path, status, contentType string
	timeout, encoding         string
	traceparent, tracestate   string
	grpcStatus, grpcMessage   string
	details                   string
	hasGRPCStatus             bool
}

// setSensitive keeps what the decoder cannot do without and what is no text. Of a
// path or a message it is told that there was one.
func (f *fields) setSensitive(name, value string) {
	switch name {
	case ":status", "content-type", "grpc-timeout", "grpc-encoding":
		f.set(name, value)
	case "grpc-status":
		if _, err := strconv.ParseInt(value, 10, 32); err != nil {
			value = "" // it would be told as malformed
		}
		f.set(name, value)
	case ":path":
		f.path = "/" + withheld + "/" + withheld
	case "grpc-message":
		f.grpcMessage = withheld
	}
}

func (f *fields) set(name, value string) {
	switch name {
	case ":path":
		f.path = upTo(maxPath, value)
	case ":status":
		f.status = upTo(maxShort, value)
	case "content-type":
		f.contentType = upTo(maxShort, value)
	case "grpc-timeout":
		f.timeout = upTo(maxShort, value)
	case "grpc-encoding":
		f.encoding = upTo(maxShort, value)
	case "traceparent":
		f.traceparent = upTo(maxTraceparent, value)
	case "tracestate":
		f.tracestate = upTo(maxTracestate, value)
	case "grpc-status":
		f.grpcStatus, f.hasGRPCStatus = upTo(maxShort, value), true
	case "grpc-message":
		f.grpcMessage = upTo(maxMessage, value)
	case "grpc-status-details-bin":
		if len(value) <= maxDetails { // a part of base64 is of no use
			f.details = value
		}
	}
}
