package codec

import (
	"bytes"
	"testing"
)

// FuzzMessages: gRPC framing of hostile bytes in any chunking counts the same,
// keeps at most its bound, and reads back what was framed.
func FuzzMessages(f *testing.F) {
	f.Add(message("whole"), uint8(3))
	f.Add(append(message(""), message("second")...), uint8(1))
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3}, uint8(5))
	f.Add([]byte{2, 0, 0, 0, 1, 9}, uint8(2))
	f.Add([]byte{1, 0, 0, 0, 4, 0x1f, 0x8b, 8, 0}, uint8(9))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		read := func(step int) (Messages, int) {
			c := NewConn(tight(), NewBuffers(1<<20), func(*Call) {})
			var out Messages
			var r messageReader
			r.init(c, &out)
			r.encoding = "gzip"
			for p := b; len(p) > 0; {
				n := min(step, len(p))
				r.write(p[:n])
				p = p[n:]
			}
			return out, c.held
		}
		one, held := read(len(b) + 1)
		many, _ := read(int(step) + 1)
		if one.Count != many.Count || one.Bytes != many.Bytes || len(one.First) != len(many.First) {
			t.Fatalf("%d/%d/%d and %d/%d/%d", one.Count, one.Bytes, len(one.First), many.Count, many.Bytes, len(many.First))
		}
		if held > 2*512 || one.Bytes > int64(len(b)) {
			t.Fatalf("%d bytes kept, %d counted of %d", held, one.Bytes, len(b))
		}
		var x, y bytes.Buffer
		for i := range one.First {
			p, pw := one.First[i].Plain(&x, 256)
			q, qw := many.First[i].Plain(&y, 256)
			if !bytes.Equal(p, q) || pw != qw || len(p) > 256 {
				t.Fatalf("message %d: %q (%v) and %q (%v)", i, p, pw, q, qw)
			}
		}
	})
}
