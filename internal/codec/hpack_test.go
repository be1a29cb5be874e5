package codec

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// FuzzHPACK sends a hostile block and then proper ones. Where x/net's decoder
// takes the hostile block, ours does, and stays in step with it.
func FuzzHPACK(f *testing.F) {
	w := newWire(&testing.T{})
	f.Add(w.client.block(":path: /a.B/C", "content-type: application/grpc", "x: y"))
	f.Add([]byte{0x3f, 0xe1, 0x1f, 0x82})                            // a size update of 4096
	f.Add([]byte{0x20, 0x3f, 0xe1, 0x1f, 0x40, 1, 'a', 1, 'b'})      // two of them
	f.Add([]byte{0x10, 3, 'k', 'e', 'y', 0x83, 0xff, 0xff, 0xff})    // never indexed, bad Huffman
	f.Add([]byte{0x15, 0})                                           // a path that is never indexed
	f.Add([]byte{0x80})                                              // index 0
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}) // integer overflow
	f.Fuzz(func(t *testing.T, hostile []byte) {
		var b headerBlock
		b.init(DefaultLimits())
		oracle := hpack.NewDecoder(4096, nil)
		for _, p := range [][]byte{hostile, w.client.enc0("x-after: hostile"), hostile} {
			want, err := oracle.DecodeFull(p)
			b.bytes = append(b.bytes[:0], p...)
			got, g := b.decode()
			if err != nil {
				return // we may take what it does not: several size updates
			}
			if g != nil {
				t.Fatalf("gave up (%v) on a block that is well-formed: %x", g, p)
			}
			var f fields
			for _, hf := range want {
				if hf.Sensitive {
					f.setSensitive(hf.Name, hf.Value)
				} else {
					f.set(hf.Name, hf.Value)
				}
			}
			if *got != f {
				t.Fatalf("fields %+v, x/net has %+v", *got, f)
			}
		}
	})
}

// enc0 encodes one field with a fresh encoder: literal, for any table.
func (s *speaker) enc0(field string) []byte {
	var buf bytes.Buffer
	name, value, _ := strings.Cut(field, ": ")
	_ = hpack.NewEncoder(&buf).WriteField(hpack.HeaderField{Name: name, Value: value})
	return buf.Bytes()
}

// A hostile block cannot make the decoder hold more than its bounds: an entry
// of 4 KB named by one byte, a quarter million times over.
func TestHPACKBombIsBounded(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/C", "x-bomb: "+strings.Repeat("b", 4000))
	bomb := bytes.Repeat([]byte{0x80 | 62}, 16<<10)
	must(t, w.client.WriteRawFrame(http2.FrameHeaders, 0, 3, bomb))
	for range 20 {
		must(t, w.client.WriteContinuation(3, false, bomb))
	}
	must(t, w.client.WriteContinuation(3, true, nil))
	w.client.say()
	w.expectGaveUp("")
	if got := w.conn.client.headerBlock.decoded; got > w.conn.limits.HeaderFields+4096 {
		t.Errorf("%d bytes of fields were made", got)
	}
}
