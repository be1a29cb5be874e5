package schema

import (
	"bytes"
	"encoding/base64"
	"math"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	ellipsis    = "…"
	replacement = "\ufffd"
	hexDigits   = "0123456789abcdef"
)

// What a byte of a string asks for.
const (
	escape uint8 = 1 << iota // it does not stand for itself in a JSON string
	odd                      // it is none of those that names consist of
	userAt                   // it may end a URL's userinfo
	jwtJ                     // it may be of a token's beginning
)

// plain are the bytes that stand for themselves in a JSON string; ask says the
// same and more.
var plain, ask = func() (t [256]bool, a [256]uint8) {
	for i := range a {
		c := byte(i)
		t[c] = c >= ' ' && c < 0x7f && c != '"' && c != '\\'
		switch {
		case !t[c]:
			a[c] = escape | odd
		case c == '@':
			a[c] = userAt
		case c == jwtBegin[2]:
			a[c] = jwtJ
		case bytes.IndexByte([]byte(" =;,&%?'()<>[]{}|!$`^"), c) >= 0:
			a[c] = odd
		}
	}
	return t, a
}()

// text writes a string, or bytes as one.
//
// A name (the value of a listed field) is told whole or by its length: half a
// name is another's. Free text, and what only Full shows, may be cut.
func (w *writer) text(f *field, c *cursor) bool {
	s, cut, isName := c.bytes(), c.cut, f.verdict == shown
	if isName && (cut || len(s) > w.maxString) {
		w.trimmed = true
		return w.hidden(f, c, extent{count: 1, size: c.size})
	}
	if f.kind == protoreflect.BytesKind && !utf8.Valid(s) {
		return w.base64(f, c)
	}
	if isName && len(s)+len(`""`) <= w.room() && isPlain(s) {
		w.buf = append(append(append(w.buf, '"'), s...), '"')
		return true
	}
	s, cut = w.clean(f, s, cut)
	mark := len(w.buf)
	var complete, ok bool
	room := min(w.room(), w.maxString)
	w.buf, complete, ok = appendString(w.buf, s, room, cut, c.size)
	w.trimmed = w.trimmed || !complete
	switch {
	case !ok:
		w.full = true
	case isName && !complete:
		w.buf = w.buf[:mark]
		return w.hidden(f, c, extent{count: 1, size: c.size})
	}
	return ok
}

// isPlain: s is a name as it stands, with nothing to escape and nothing in which
// a credential could be.
func isPlain(s []byte) bool {
	var all uint8
	for _, c := range s {
		all |= ask[c]
	}
	switch {
	case all&(escape|odd) != 0:
		return false
	case all&userAt != 0 && mayHavePassword(s):
		return false
	}
	return all&jwtJ == 0 || !bytes.Contains(s, jwtBegin)
}

// mayHavePassword: before an @ stands a colon, with or without a URL's scheme. An
// image's digest, the common case, is none.
func mayHavePassword(s []byte) bool {
	at := bytes.LastIndexByte(s, '@')
	if bytes.HasPrefix(s[at:], []byte("@sha256:")) {
		at = bytes.LastIndexByte(s[:at], '@')
	}
	return at >= 0 && bytes.IndexByte(s[:at], ':') >= 0
}

// clean takes credentials out of a string: all of what may be one where it is
// shown because a table says so, service account tokens whatever was asked for.
func (w *writer) clean(f *field, s []byte, cut bool) ([]byte, bool) {
	if bound := 2 * w.maxString; len(s) > bound { // what is cut anyway need not be read
		s, cut = s[:bound], true
	}
	text := string(s)
	if cut {
		text = untilSpace(text)
	}
	if f.verdict == byName {
		return []byte(ScrubTokens(text)), cut
	}
	return []byte(Scrub(text)), cut
}

// base64 writes bytes, whole or by their length.
func (w *writer) base64(f *field, c *cursor) bool {
	if size := base64.StdEncoding.EncodedLen(len(c.bytes())) + len(`""`); c.cut || size > min(w.room(), w.maxString) {
		w.trimmed = true
		return w.hidden(f, c, extent{count: 1, size: c.size})
	}
	w.buf = append(w.buf, '"')
	w.buf = base64.StdEncoding.AppendEncode(w.buf, c.bytes())
	w.buf = append(w.buf, '"')
	return true
}

// appendString appends s as a JSON string of at most limit bytes, quotes and
// all. Where it does not fit, or was cut already, an ellipsis and its length as
// sent stand for the rest, always at a rune's boundary. Bytes that are no UTF-8
// become U+FFFD. It says whether the string is complete, and whether there is
// one at all: where not even the mark fits, dst comes back as it was.
func appendString(dst []byte, s []byte, limit int, cut bool, size uint64) (out []byte, complete, ok bool) {
	begin := len(dst)
	end := begin + limit
	var store [64]byte
	tail := append(appendLength(append(append(store[:0], ellipsis...), " "+openMark...), size), closeMark...)
	elided := end - len(tail) - 1 // where the text ends at most if the mark follows
	dst = append(dst, '"')
	mark := len(dst) // a rune's boundary at or before elided
	for len(s) > 0 {
		n := 0
		for n < len(s) && plain[s[n]] {
			n++
		}
		if n = min(n, end-len(dst)); n > 0 {
			if len(dst) <= elided {
				mark = min(len(dst)+n, elided)
			}
			dst = append(dst, s[:n]...)
			s = s[n:]
			continue
		}
		if cut && !utf8.FullRune(s) {
			break // the rest of this rune was lost
		}
		var used int
		dst, used = appendEscaped(dst, s)
		s = s[used:]
		if len(dst) <= elided {
			mark = len(dst)
		}
		if len(dst) >= end {
			break
		}
	}
	if !cut && len(s) == 0 && len(dst)+1 <= end {
		return append(dst, '"'), true, true
	}
	if mark > elided {
		return dst[:begin], false, false
	}
	dst = append(dst[:mark], tail...)
	return append(dst, '"'), false, true
}

// appendEscaped appends the first rune of s, which is not plain, and says how
// many bytes of s it took.
func appendEscaped(dst, s []byte) ([]byte, int) {
	switch c := s[0]; {
	case c == '"' || c == '\\':
		return append(dst, '\\', c), 1
	case c == '\n':
		return append(dst, '\\', 'n'), 1
	case c == '\t':
		return append(dst, '\\', 't'), 1
	case c < ' ' || c == 0x7f:
		return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf]), 1
	}
	r, size := utf8.DecodeRune(s)
	if r == utf8.RuneError && size == 1 {
		return append(dst, replacement...), 1
	}
	if r <= 0x9f { // C1 controls, which terminals obey like the others
		return append(dst, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&0xf]), size
	}
	return append(dst, s[:size]...), size
}

// appendNumber appends a number, bool or enum as JSON. NaN and the infinities,
// which JSON lacks, are strings, as in protobuf's own JSON.
func (f *field) appendNumber(dst []byte, bits uint64) []byte {
	switch f.kind {
	case protoreflect.BoolKind:
		return strconv.AppendBool(dst, protowire.DecodeBool(bits))
	case protoreflect.EnumKind:
		if name := f.enum[int32(bits)]; name != "" {
			return append(dst, name...)
		}
		return strconv.AppendInt(dst, int64(int32(bits)), 10)
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind:
		return strconv.AppendInt(dst, int64(int32(bits)), 10)
	case protoreflect.Int64Kind, protoreflect.Sfixed64Kind:
		return strconv.AppendInt(dst, int64(bits), 10)
	case protoreflect.Sint32Kind:
		return strconv.AppendInt(dst, protowire.DecodeZigZag(bits&math.MaxUint32), 10)
	case protoreflect.Sint64Kind:
		return strconv.AppendInt(dst, protowire.DecodeZigZag(bits), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return strconv.AppendUint(dst, bits&math.MaxUint32, 10)
	case protoreflect.FloatKind:
		return appendFloat(dst, float64(math.Float32frombits(uint32(bits))), 32)
	case protoreflect.DoubleKind:
		return appendFloat(dst, math.Float64frombits(bits), 64)
	default:
		return strconv.AppendUint(dst, bits, 10)
	}
}

func appendFloat(dst []byte, v float64, size int) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(dst, `"-Infinity"`...)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, size)
}
