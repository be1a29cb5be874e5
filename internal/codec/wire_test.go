package codec

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wire plays a connection's two sides with x/net's own encoders, and collects
// what the decoder makes of it. A test reads as a transcript: the client says,
// the server says, and these calls are told.
type wire struct {
	t      *testing.T
	conn   *Conn
	client *speaker
	server *speaker
	calls  []string
	now    time.Time
	log    []chunk // everything that was said, for replaying it
	err    error
}

type chunk struct {
	side Side
	data []byte
}

type speaker struct {
	w    *wire
	side Side
	buf  bytes.Buffer
	*http2.Framer
	hbuf bytes.Buffer
	enc  *hpack.Encoder
}

var epoch = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

func newWire(t *testing.T) *wire {
	w := &wire{t: t, now: epoch}
	w.conn = NewConn(DefaultLimits(), NewBuffers(64<<20), func(c *Call) { w.calls = append(w.calls, tell(c)) })
	w.client, w.server = newSpeaker(w, Client), newSpeaker(w, Server)
	return w
}

// greet passes the prefaces and SETTINGS of both sides.
func (w *wire) greet() *wire {
	w.client.buf.WriteString(http2.ClientPreface)
	must(w.t, w.client.WriteSettings())
	w.client.say()
	must(w.t, w.server.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16384}))
	must(w.t, w.server.WriteSettingsAck())
	w.server.say()
	return w
}

func newSpeaker(w *wire, s Side) *speaker {
	sp := &speaker{w: w, side: s}
	sp.Framer = http2.NewFramer(&sp.buf, nil)
	sp.AllowIllegalWrites = true
	sp.enc = hpack.NewEncoder(&sp.hbuf)
	return sp
}

// say hands what was written to the decoder.
func (s *speaker) say() {
	s.w.t.Helper()
	p := bytes.Clone(s.buf.Bytes())
	s.buf.Reset()
	s.w.log = append(s.w.log, chunk{s.side, p})
	if err := s.w.conn.Write(s.side, s.w.now, p); err != nil {
		s.w.err = err
	}
}

// block encodes "name: value" pairs, those behind a "!" as never to be indexed.
func (s *speaker) block(fields ...string) []byte {
	s.hbuf.Reset()
	for _, f := range fields {
		f, sensitive := strings.CutPrefix(f, "!")
		i := strings.Index(f[1:], ": ") + 1
		must(s.w.t, s.enc.WriteField(hpack.HeaderField{Name: f[:i], Value: f[i+2:], Sensitive: sensitive}))
	}
	return bytes.Clone(s.hbuf.Bytes())
}

func (s *speaker) headers(id uint32, end bool, fields ...string) {
	must(s.w.t, s.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: s.block(fields...), EndHeaders: true, EndStream: end,
	}))
	s.say()
}

// call says a request's headers.
func (s *speaker) call(id uint32, path string, more ...string) {
	s.headers(id, false, append([]string{":method: POST", ":path: " + path, "content-type: application/grpc"}, more...)...)
}

func (s *speaker) answer(id uint32, more ...string) {
	s.headers(id, false, append([]string{":status: 200", "content-type: application/grpc"}, more...)...)
}

func (s *speaker) data(id uint32, end bool, p []byte) {
	must(s.w.t, s.WriteData(id, end, p))
	s.say()
}

// message is a gRPC message with its prefix.
func message(s string) []byte {
	n := len(s)
	return append([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, s...)
}

// tell is a call in one line.
func tell(c *Call) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", c.Stream, c.Path)
	if c.Lost {
		b.WriteString(" LOST")
	} else {
		fmt.Fprintf(&b, " %d", c.Code)
	}
	if c.Message != "" {
		fmt.Fprintf(&b, " %q", c.Message)
	}
	for _, m := range []struct {
		arrow string
		*Messages
	}{{"→", &c.Request}, {"←", &c.Response}} {
		fmt.Fprintf(&b, " %s%d/%d", m.arrow, m.Count, m.Bytes)
		for i := range m.First {
			var buf bytes.Buffer
			p, whole := m.First[i].Plain(&buf, 1<<20)
			if len(p) > 24 {
				p = append(bytes.Clone(p[:21]), "..."...)
			}
			fmt.Fprintf(&b, " %q", p)
			if !whole {
				b.WriteString("…")
			}
		}
	}
	return b.String()
}

// expect compares what was told since the last expect.
func (w *wire) expect(calls ...string) {
	w.t.Helper()
	got, want := strings.Join(w.calls, "\n"), strings.Join(calls, "\n")
	if got != want {
		w.t.Errorf("told:\n%s\nexpected:\n%s", got, want)
	}
	w.calls = nil
}

func (w *wire) expectGaveUp(token string) {
	w.t.Helper()
	g, ok := w.err.(*GaveUp)
	if token == "" && w.err != nil || token != "" && (!ok || g.Token != token) {
		w.t.Errorf("gave up with %v, expected %q", w.err, token)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func itoa(n int) string { return fmt.Sprint(n) }
