package tap

import (
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

func TestTraceparent(t *testing.T) {
	const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for s, want := range map[string]bool{
		"00-" + id + "-" + parent + "-01":                              true,
		"00-" + id + "-" + parent + "-00":                              true,
		"cc-" + id + "-" + parent + "-01-what-the-future-will-be-like": true,
		"00-" + id + "-" + parent + "-01-more":                         false,
		"ff-" + id + "-" + parent + "-01":                              false,
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01":         false,
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01":             false,
		"00-" + strings.ToUpper(id) + "-" + parent + "-01":             false,
		"00-" + id + "-" + parent:                                      false,
		"":                                                             false,
	} {
		r := &call.Record{}
		trace(r, s, "vendor=1")
		if r.NativeParent != want || (r.TraceID == id) != want || (r.ParentSpanID == parent) != want || (r.TraceState != "") != want {
			t.Errorf("%q: %+v", s, r)
		}
		if len(r.TraceID) != 32 || len(r.SpanID) != 16 {
			t.Errorf("%q: ids %q %q", s, r.TraceID, r.SpanID)
		}
	}
}
