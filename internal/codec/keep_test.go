package codec

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What a sender marks as never to be indexed is a secret to it: the decoder
// follows such a call, and tells none of it.
func TestNeverIndexedFieldsAreNotTold(t *testing.T) {
	w := newWire(t)
	var last Call
	w.conn = NewConn(DefaultLimits(), NewBuffers(1<<20), func(c *Call) { last = *c; w.calls = append(w.calls, tell(c)) })
	w.greet()
	w.client.headers(1, false, ":method: POST", "!:path: /a.B/hunter2", "!content-type: application/grpc", "!grpc-timeout: 1S",
		"!traceparent: hunter2", "!tracestate: hunter2=1", "!authorization: Bearer hunter2", "authorization: Bearer hunter2")
	w.client.data(1, true, message("x"))
	w.server.answer(1)
	w.server.headers(1, true, "!grpc-status: 7", "!grpc-message: hunter2", "!grpc-status-details-bin: aHVudGVyMg")
	w.expect(`1 /‹withheld›/‹withheld› 7 "‹withheld›" →1/1 "x" ←0/0`)
	if said := fmt.Sprintf("%+v", last); strings.Contains(said, "hunter2") || last.Traceparent != "" || last.Details != nil {
		t.Errorf("told %s", said)
	}
	w.client.call(5, "/a.B/C")
	w.server.headers(5, true, ":status: 200", "content-type: application/grpc", "!grpc-status: hunter2")
	w.expect(`5 /a.B/C 2 "malformed grpc-status \"\"" →0/0 ←0/0`)
	// The next block of the same connection is read as ever.
	w.client.call(7, "/a.B/C", "traceparent: 00-1")
	w.server.headers(7, true, ":status: 200", "content-type: application/grpc", "grpc-status: 0")
	w.expect(`7 /a.B/C 0 →0/0 ←0/0`)
	if last.Traceparent != "00-1" {
		t.Errorf("traceparent %q", last.Traceparent)
	}
}

func TestStatusDetails(t *testing.T) {
	for sent, want := range map[string]string{
		"aGVsbG8h":                        "hello!",
		"aGVsbG8":                         "hello",
		"aGVsbG8=":                        "hello",
		"":                                "",
		"not base64":                      "",
		strings.Repeat("A", maxDetails+4): "", // a part of it would be of no use
	} {
		w := newWire(t)
		var details []byte
		w.conn = NewConn(DefaultLimits(), NewBuffers(1<<20), func(c *Call) { details = c.Details })
		w.greet()
		w.client.call(1, "/a.B/C")
		w.server.headers(1, true, ":status: 200", "content-type: application/grpc", "grpc-status: 9", "grpc-status-details-bin: "+sent)
		if string(details) != want {
			t.Errorf("%.20q: %q", sent, details)
		}
	}
}

// heard is a Rest that remembers all of it.
type heard struct{ b []byte }

func (h *heard) Write(p []byte) { h.b = append(h.b, p...) }

// A response's messages are heeded byte for byte, also those that are not kept and
// those of a call that has not ended; compressed ones are not, nor is a request.
func TestHeed(t *testing.T) {
	limits := DefaultLimits()
	limits.KeepBytes, limits.KeepMessages = 10, 1
	w := newWire(t)
	var got []string
	var begun []uint32
	w.conn = NewConn(limits, NewBuffers(1<<20), func(*Call) {})
	w.conn.Began = func(c *Call) { begun = append(begun, c.Stream) }
	w.conn.Heed = func(c *Call) Heeder {
		if c.Path != "/a.B/Heeded" {
			return nil
		}
		return &heeder{told: func(p []byte) { got = append(got, string(p)) }}
	}
	w.greet()
	packed := message("packed")
	packed[0] = 1
	for i, path := range []string{"/a.B/Heeded", "/a.B/Other"} {
		id := uint32(2*i + 1)
		w.client.call(id, path)
		if len(begun) > 0 && begun[len(begun)-1] == id {
			t.Error("begun without a request")
		}
		w.client.data(id, true, message("request"))
		w.server.answer(id)
		w.server.data(id, false, slices.Concat(message("a long one of "+path), packed, message(""), message("last")))
	}
	if want := []string{"a long one of /a.B/Heeded", "", "last"}; !slices.Equal(got, want) || !slices.Equal(begun, []uint32{1, 3}) {
		t.Errorf("heeded %q, want %q; begun %v", got, want, begun)
	}
}

// Of calls that are open at a time, few are heeded: each heeder may hold something.
func TestHeedIsBounded(t *testing.T) {
	limits := DefaultLimits()
	w := newWire(t)
	heeded := 0
	w.conn = NewConn(limits, NewBuffers(1<<20), func(*Call) {})
	w.conn.Heed = func(*Call) Heeder { heeded++; return &heeder{told: func([]byte) {}} }
	w.greet()
	id := uint32(1)
	open := func(n int) {
		for range n {
			w.client.call(id, "/a.B/List")
			w.server.answer(id)
			id += 2
		}
	}
	open(limits.Heeded + 100)
	if heeded != limits.Heeded {
		t.Errorf("%d are heeded", heeded)
	}
	for done := uint32(1); done < id; done += 2 {
		w.server.headers(done, true, "grpc-status: 0")
	}
	heeded = 0
	open(limits.Heeded + 1)
	if heeded != limits.Heeded {
		t.Errorf("%d of those that come later are heeded", heeded)
	}
}

// What is behind the kept prefix of a message is told, to the byte and of that
// message alone, in any chunking.
func TestFollow(t *testing.T) {
	limits := DefaultLimits()
	limits.KeepBytes, limits.KeepMessages = 100, 2
	long := func(n int) string {
		var b bytes.Buffer
		for i := range n {
			b.WriteByte(byte(i * 7))
		}
		return b.String()
	}
	for _, cut := range []int{1, 3, 100, 105, 1 << 20} {
		w := newWire(t)
		told := 0
		w.conn = NewConn(limits, NewBuffers(1<<20), func(c *Call) {
			for i, want := range []string{long(5000), "short"} {
				m := &c.Request.First[i]
				var buf bytes.Buffer
				p, whole := m.Plain(&buf, 1<<20)
				rest, _ := m.Rest().(*heard)
				switch {
				case whole != (rest == nil):
					t.Errorf("cut by %d, message %d: whole %v, and told the rest: %v", cut, i, whole, rest != nil)
				case rest == nil && string(p) != want, rest != nil && string(p)+string(rest.b) != want:
					t.Errorf("cut by %d, message %d: not what was sent", cut, i)
				}
				told++
			}
		})
		w.conn.Follow = func(kept []byte) Rest {
			if len(kept) != limits.KeepBytes {
				t.Errorf("%d bytes are kept", len(kept))
			}
			return &heard{}
		}
		w.greet()
		w.client.call(1, "/a.B/C")
		all := append(append(message(long(5000)), message("short")...), message(long(3000))...)
		for len(all) > 0 {
			n := min(cut, len(all), 16<<10)
			w.client.data(1, false, all[:n])
			all = all[n:]
		}
		w.conn.Close(w.now)
		if told != 2 {
			t.Errorf("cut by %d: %d messages", cut, told)
		}
	}
}
