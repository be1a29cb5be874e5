package tap

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// trace gives r its ids: in the caller's trace and under the caller's span
// where it sent a traceparent, sampled or not; else in a trace of its own.
func trace(r *call.Record, traceparent, tracestate string) {
	r.SpanID = randomHex(1)
	if p, ok := parseTraceparent(traceparent); ok {
		r.TraceID, r.ParentSpanID, r.ParentSampled, r.TraceState, r.NativeParent = p.trace, p.span, p.sampled, tracestate, true
		return
	}
	r.TraceID = randomHex(2)
}

type parent struct {
	trace, span string
	sampled     bool
}

// parseTraceparent reads W3C Trace Context's header, §3.2: version, trace id,
// parent id, flags; of versions to come only these four are known.
func parseTraceparent(s string) (parent, bool) {
	if s == "" {
		return parent{}, false
	}
	p := strings.Split(s, "-")
	if len(p) < 4 || !isHex(p[0], 2) || p[0] == "ff" || p[0] == "00" && len(p) != 4 || !isHex(p[3], 2) {
		return parent{}, false
	}
	if !isHex(p[1], 32) || !isHex(p[2], 16) || strings.Trim(p[1], "0") == "" || strings.Trim(p[2], "0") == "" {
		return parent{}, false
	}
	flags, _ := strconv.ParseUint(p[3], 16, 8)
	return parent{trace: p[1], span: p[2], sampled: flags&1 != 0}, true
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

// randomHex returns n random words of eight bytes, never all zero, which would
// be no id.
func randomHex(n int) string {
	var b [16]byte
	for i := range n {
		binary.BigEndian.PutUint64(b[8*i:], rand.Uint64())
	}
	b[8*n-1] |= 1
	return hex.EncodeToString(b[:8*n])
}
