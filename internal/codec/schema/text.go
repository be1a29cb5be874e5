package schema

import (
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

// plain are the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\' && c != 0x7f
	}
	return t
}()

// appendString appends s as a JSON string of at most limit bytes, quotes and
// all. What does not fit is replaced by an ellipsis, as is what was lost
// already (cut), always at a rune's boundary. Bytes that are no UTF-8 become
// U+FFFD. It says whether the string is complete, and whether there is one at
// all: where not even the ellipsis fits, dst comes back as it was.
func appendString(dst []byte, s []byte, limit int, cut bool) (out []byte, complete, ok bool) {
	begin := len(dst)
	end := begin + limit
	elided := end - len(ellipsis) - 1 // where the text ends at most if an ellipsis follows
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
		var size int
		dst, size = appendEscaped(dst, s)
		s = s[size:]
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
	dst = append(dst[:mark], ellipsis...)
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
