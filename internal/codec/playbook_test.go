package codec

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func TestUnaryCall(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/C")
	w.client.data(1, true, message("ask"))
	w.server.answer(1)
	w.server.data(1, false, message("answer"))
	w.expect()
	w.server.headers(1, true, "grpc-status: 0")
	w.expect(`1 /a.B/C 0 →1/3 "ask" ←1/6 "answer"`)
}

func TestInterleavedStreamsKeepApart(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/One")
	w.client.call(3, "/a.B/Three")
	one, three := message("first of one"), message("of three")
	w.client.data(1, false, one[:7])
	w.client.data(3, true, three)
	w.client.data(1, true, one[7:])
	w.server.answer(3)
	w.server.answer(1)
	w.server.data(3, false, message("3"))
	w.server.data(1, false, message("1"))
	w.server.headers(3, true, "grpc-status: 0")
	w.server.headers(1, true, "grpc-status: 0")
	w.expect(`3 /a.B/Three 0 →1/8 "of three" ←1/1 "3"`, `1 /a.B/One 0 →1/12 "first of one" ←1/1 "1"`)
}

func TestTrailersOnly(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/C")
	w.client.data(1, true, message(""))
	w.server.headers(1, true, ":status: 200", "content-type: application/grpc", "grpc-status: 5", "grpc-message: no such pod: %E2%98%83%0Anext %zz line")
	w.expect(`1 /a.B/C 5 "no such pod: ☃\nnext %zz line" →1/0 "" ←0/0`)
}

func TestAStreamEndsAtItsTrailers(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/Watch")
	w.client.data(1, true, message("x"))
	w.server.answer(1)
	for range 20 {
		w.server.data(1, false, append(message("a"), message("bc")...))
	}
	w.expect()
	w.server.headers(1, true, "grpc-status: 0")
	w.expect(`1 /a.B/Watch 0 →1/1 "x" ←40/60 "a" "bc" "a" "bc" "a" "bc" "a" "bc"`)
}

func TestInformationalHeadersAreNotTheAnswer(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/C")
	w.server.headers(1, false, ":status: 103", "link: x")
	w.server.answer(1)
	w.server.headers(1, true, "grpc-status: 0")
	w.expect(`1 /a.B/C 0 →0/0 ←0/0`)
}

func TestResets(t *testing.T) {
	for _, c := range []struct {
		name    string
		timeout string
		after   time.Duration
		server  bool
		code    http2.ErrCode
		want    string
	}{
		{"client cancels", "", time.Second, false, http2.ErrCodeCancel, `1 "context canceled"`},
		{"client cancels well before its deadline", "grpc-timeout: 2M", time.Minute, false, http2.ErrCodeCancel, `1 "context canceled"`},
		{"client's deadline", "grpc-timeout: 99871u", 99 * time.Millisecond, false, http2.ErrCodeCancel, `4 "context deadline exceeded"`},
		{"client's deadline, late", "grpc-timeout: 120S", 121 * time.Second, false, http2.ErrCodeCancel, `4 "context deadline exceeded"`},
		{"server refuses", "", 0, true, http2.ErrCodeRefusedStream, `14 "stream terminated by the server's RST_STREAM with error code: REFUSED_STREAM"`},
		{"server cancels after the deadline", "grpc-timeout: 1S", 2 * time.Second, true, http2.ErrCodeCancel, `4 "context deadline exceeded"`},
		{"server is overwhelmed", "", 0, true, http2.ErrCodeEnhanceYourCalm, `8 "stream terminated by the server's RST_STREAM with error code: ENHANCE_YOUR_CALM"`},
		{"client sees broken framing", "", 0, false, http2.ErrCodeProtocol, `13 "stream terminated by the client's RST_STREAM with error code: PROTOCOL_ERROR"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t).greet()
			w.t = t
			var more []string
			if c.timeout != "" {
				more = append(more, c.timeout)
			}
			w.client.call(1, "/a.B/C", more...)
			w.now = w.now.Add(c.after)
			by := w.client
			if c.server {
				by = w.server
			}
			must(t, by.WriteRSTStream(1, c.code))
			by.say()
			w.expect(`1 /a.B/C ` + c.want + ` →0/0 ←0/0`)
			// What was under way when the reset passed is no new call, and
			// its header block still counts for HPACK.
			w.server.answer(1, "x-only-here: kept in step")
			w.server.headers(1, true, "grpc-status: 0")
			w.client.call(3, "/a.B/D")
			w.server.answer(3, "x-only-here: kept in step")
			w.server.headers(3, true, "grpc-status: 0")
			w.expect(`3 /a.B/D 0 →0/0 ←0/0`)
		})
	}
}

func TestServerDoneEarlyThenReset(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/C")
	w.server.headers(1, true, ":status: 200", "content-type: application/grpc", "grpc-status: 7")
	must(t, w.server.WriteRSTStream(1, http2.ErrCodeNo))
	w.server.say()
	w.client.data(1, true, message("too late"))
	w.expect(`1 /a.B/C 7 →0/0 ←0/0`)
}

func TestGoAway(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/C")
	w.client.call(3, "/a.B/D")
	must(t, w.server.WriteGoAway(1, http2.ErrCodeNo, []byte("some debug data")))
	w.server.say()
	w.expect(`3 /a.B/D LOST "the server went away without processing it (GOAWAY); the client retries on another connection" →0/0 ←0/0`)
	w.server.headers(1, true, ":status: 200", "grpc-status: 0")
	w.expect(`1 /a.B/C 0 →0/0 ←0/0`)
}

func TestLostConnectionsInventNoCode(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/C")
	w.client.call(3, "/a.B/D")
	w.conn.End(Client, w.now) // half-closed: an answer can still come
	w.expect()
	w.server.headers(1, true, ":status: 200", "grpc-status: 0")
	w.expect(`1 /a.B/C 0 →0/0 ←0/0`)
	w.conn.End(Server, w.now)
	w.conn.Close(w.now)
	w.expect(`3 /a.B/D LOST "the server closed the connection before the call ended" →0/0 ←0/0`)
}

func TestAnswersThatAreNotGRPC(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/C")
	w.server.headers(1, false, ":status: 404", "content-type: text/html")
	w.server.data(1, true, []byte("<p>no"))
	w.client.call(3, "/a.B/C")
	w.server.answer(3)
	w.server.data(3, true, message("no trailers"))
	w.client.call(5, "/a.B/C")
	w.server.answer(5)
	w.server.headers(5, true, "x: y")
	w.client.call(7, "/a.B/C")
	w.server.headers(7, true, ":status: 200", "grpc-status: many")
	w.expect(
		`1 /a.B/C 12 "unexpected HTTP status code received from server: 404 (Not Found)" →0/0 ←0/0`,
		`3 /a.B/C 13 "server closed the stream without sending trailers" →0/0 ←1/11 "no trailers"`,
		`5 /a.B/C 2 "the server's trailers hold no grpc-status" →0/0 ←0/0`,
		`7 /a.B/C 2 "malformed grpc-status \"many\"" →0/0 ←0/0`,
	)
}

func TestRequestsThatAreNotGRPCPass(t *testing.T) {
	w := newWire(t).greet()
	w.client.headers(1, true, ":method: GET", ":path: /info")
	w.server.headers(1, true, ":status: 200")
	w.expect()
	w.expectGaveUp("")
}

func TestPaddingAndPriority(t *testing.T) {
	w := newWire(t).greet()
	must(t, w.client.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, EndHeaders: true, PadLength: 17,
		Priority:      http2.PriorityParam{StreamDep: 7, Weight: 3, Exclusive: true},
		BlockFragment: w.client.block(":path: /a.B/C", "content-type: application/grpc+proto"),
	}))
	must(t, w.client.WriteDataPadded(1, true, message("padded"), make([]byte, 9)))
	w.client.say()
	w.server.headers(1, true, ":status: 200", "grpc-status: 0")
	w.expect(`1 /a.B/C 0 →1/6 "padded" ←0/0`)
}

func TestContinuation(t *testing.T) {
	w := newWire(t).greet()
	b := w.client.block(":path: /a.B/C", "content-type: application/grpc", "x: "+strings.Repeat("y", 100))
	must(t, w.client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:3], EndStream: true}))
	must(t, w.client.WriteContinuation(1, false, b[3:50]))
	must(t, w.client.WriteContinuation(1, false, nil))
	must(t, w.client.WriteContinuation(1, true, b[50:]))
	w.client.say()
	w.server.headers(1, true, ":status: 200", "grpc-status: 0")
	w.expect(`1 /a.B/C 0 →0/0 ←0/0`)
}

func TestPushPromiseKeepsTheTable(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/C")
	must(t, w.server.WritePushPromise(http2.PushPromiseParam{
		StreamID: 1, PromiseID: 2, EndHeaders: true, PadLength: 3, BlockFragment: w.server.block("x-new: entry"),
	}))
	w.server.say()
	w.server.headers(1, true, ":status: 200", "x-new: entry", "grpc-status: 0")
	w.expect(`1 /a.B/C 0 →0/0 ←0/0`)
	w.expectGaveUp("")
}

func TestTableSizeUpdates(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/C")
	// The server permits more and then the encoder shrinks and grows, which
	// puts two updates at the block's start (RFC 7541 §4.2).
	must(t, w.server.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 8192}))
	w.server.say()
	w.client.enc.SetMaxDynamicTableSizeLimit(8192)
	w.client.enc.SetMaxDynamicTableSize(100)
	w.client.enc.SetMaxDynamicTableSize(8192)
	w.client.call(3, "/a.B/C", "x-big: "+strings.Repeat("v", 5000))
	w.client.call(5, "/a.B/C", "x-big: "+strings.Repeat("v", 5000))
	for _, id := range []uint32{1, 3, 5} {
		w.server.headers(id, true, ":status: 200", "grpc-status: 0")
	}
	w.expect(`1 /a.B/C 0 →0/0 ←0/0`, `3 /a.B/C 0 →0/0 ←0/0`, `5 /a.B/C 0 →0/0 ←0/0`)
	w.expectGaveUp("")
}

func TestBudgetsKeepInStep(t *testing.T) {
	w := newWire(t)
	w.conn.limits.KeepBytes, w.conn.limits.HeaderFields = 4, 4000
	w.conn.client.headerBlock.limits.HeaderFields = 4000
	w.greet()
	w.client.call(1, "/a.B/C", "x-large: "+strings.Repeat("q", 3950), "x-indexed: though not shown")
	w.client.data(1, true, message("longer than four"))
	w.client.call(3, "/a.B/D", "x-indexed: though not shown")
	w.server.headers(1, true, ":status: 200", "grpc-status: 0")
	w.server.headers(3, true, ":status: 200", "grpc-status: 0")
	w.expect(`1 /a.B/C 0 →1/16 "long"… ←0/0`, `3 /a.B/D 0 →0/0 ←0/0`)
	w.expectGaveUp("")
}

func TestGzip(t *testing.T) {
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	_, _ = zw.Write(bytes.Repeat([]byte("again "), 10000))
	must(t, zw.Close())
	m := message(z.String())
	m[0] = 1

	w := newWire(t).greet()
	w.client.call(1, "/a.B/C", "grpc-encoding: gzip")
	w.client.data(1, true, m)
	w.server.answer(1, "grpc-encoding: identity")
	w.server.data(1, false, append([]byte{1}, message("as is")[1:]...))
	w.server.headers(1, true, "grpc-status: 0")
	w.expect(`1 /a.B/C 0 →1/` + itoa(z.Len()) + ` "again again again aga..." ←1/5 "as is"`)

	// A prefix decompresses as far as it goes.
	msg := Message{data: z.Bytes()[:z.Len()-20], encoding: "gzip"}
	var buf bytes.Buffer
	if p, whole := msg.Plain(&buf, 1<<20); whole || !bytes.HasPrefix(p, []byte("again again")) {
		t.Errorf("prefix of gzip: %d bytes, whole %v", len(p), whole)
	}
	msg = Message{data: z.Bytes(), encoding: "gzip", whole: true}
	if p, whole := msg.Plain(&buf, 100); whole || len(p) != 100 {
		t.Errorf("limited: %d bytes, whole %v", len(p), whole)
	}
	if p, whole := msg.Plain(&buf, 60000); !whole || len(p) != 60000 {
		t.Errorf("exactly at the limit: %d bytes, whole %v", len(p), whole)
	}
}

func TestUnknownFramesAndReservedBitsPass(t *testing.T) {
	w := newWire(t).greet()
	w.client.call(1, "/a.B/C")
	must(t, w.client.WriteRawFrame(0xbe, 0xff, 1, []byte("grease")))
	must(t, w.client.WriteRawFrame(http2.FrameData, http2.FlagDataEndStream, 1|1<<31, message("x")))
	must(t, w.client.WritePing(false, [8]byte{}))
	must(t, w.client.WriteWindowUpdate(0, 77))
	w.client.say()
	w.server.headers(1, true, ":status: 200", "grpc-status: 0")
	w.expect(`1 /a.B/C 0 →1/1 "x" ←0/0`)
}

// Every way to give up: said by a token, the open calls lost, the rest ignored.
func TestGivesUpLoudlyAndOnlyOnThisConnection(t *testing.T) {
	for token, say := range map[string]func(w *wire){
		"hpack":                 func(w *wire) { must(w.t, w.client.WriteRawFrame(http2.FrameHeaders, 4, 3, []byte{0xff, 0xff, 0x7f})) },
		"hpack_truncated":       func(w *wire) { must(w.t, w.client.WriteRawFrame(http2.FrameHeaders, 4, 3, []byte{0x40, 5, 'a'})) },
		"hpack_table_too_large": func(w *wire) { must(w.t, w.client.WriteRawFrame(http2.FrameHeaders, 4, 3, []byte{0x3f, 0xff, 0x7f})) },
		"hpack_size_update": func(w *wire) {
			must(w.t, w.client.WriteRawFrame(http2.FrameHeaders, 4, 3, []byte{0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}))
		},
		"frame_too_large":         func(w *wire) { must(w.t, w.client.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 16385))) },
		"frame_too_short":         func(w *wire) { must(w.t, w.client.WriteRawFrame(http2.FrameHeaders, 4|0x20, 3, []byte{1, 2})) },
		"pad_too_big":             func(w *wire) { must(w.t, w.client.WriteRawFrame(http2.FrameData, 8, 1, []byte{9, 1, 2})) },
		"continuation_unexpected": func(w *wire) { must(w.t, w.client.WriteContinuation(1, true, nil)) },
		"continuation_missing": func(w *wire) {
			must(w.t, w.client.WriteRawFrame(http2.FrameHeaders, 0, 3, nil))
			must(w.t, w.client.WritePing(false, [8]byte{}))
		},
		"continuation_flood": func(w *wire) {
			must(w.t, w.client.WriteRawFrame(http2.FrameHeaders, 0, 3, nil))
			for range maxContinuations + 1 {
				must(w.t, w.client.WriteContinuation(3, false, nil))
			}
		},
		"header_block_too_big": func(w *wire) {
			must(w.t, w.client.WriteRawFrame(http2.FrameHeaders, 0, 3, nil))
			for range 70 {
				must(w.t, w.client.WriteContinuation(3, false, make([]byte, 16<<10)))
			}
		},
		"headers_on_stream_0": func(w *wire) { must(w.t, w.client.WriteRawFrame(http2.FrameHeaders, 4, 0, nil)) },
		"settings_size":       func(w *wire) { must(w.t, w.client.WriteRawFrame(http2.FrameSettings, 0, 0, []byte{1, 2, 3})) },
		"rst_stream_size":     func(w *wire) { must(w.t, w.client.WriteRawFrame(http2.FrameRSTStream, 0, 1, []byte{1, 2, 3})) },
		"goaway_size":         func(w *wire) { must(w.t, w.client.WriteRawFrame(http2.FrameGoAway, 0, 0, []byte{1, 2, 3})) },
	} {
		t.Run(token, func(t *testing.T) {
			w := newWire(t).greet()
			w.t = t
			w.client.call(1, "/a.B/C")
			say(w)
			w.client.say()
			w.expectGaveUp(token)
			w.expect(`1 /a.B/C LOST "lost sight of it: the connection cannot decode any further (` + token + `)" →0/0 ←0/0`)
			w.client.call(5, "/a.B/C")
			w.conn.Close(w.now)
			w.expect()
			if w.conn.buffers.used != 0 {
				t.Errorf("%d bytes are still held", w.conn.buffers.used)
			}
		})
	}
}

func TestOpaque(t *testing.T) {
	for name, say := range map[string]chunk{
		"no_preface":  {Client, []byte("GET /info HTTP/1.1\r\nHost: crio\r\n\r\n")},
		"no_settings": {Server, []byte("HTTP/1.1 200 OK\r\n\r\n{}")},
	} {
		w := newWire(t)
		g, ok := w.conn.Write(say.side, w.now, say.data).(*GaveUp)
		if !ok || !g.Opaque || g.Token != name {
			t.Errorf("%s: %v", name, g)
		}
	}
}

func TestStreamTableIsBounded(t *testing.T) {
	w := newWire(t)
	w.conn.limits.Streams = 2
	w.greet()
	for id := uint32(1); id < 10; id += 2 {
		w.client.call(id, "/a.B/C")
	}
	if w.conn.Running() != 2 || w.conn.OverLimit() != 3 {
		t.Errorf("running %d, over the limit %d", w.conn.Running(), w.conn.OverLimit())
	}
}

func TestBuffersAreBoundedAndReturned(t *testing.T) {
	w := newWire(t)
	w.conn.buffers = NewBuffers(1000)
	w.greet()
	w.client.call(1, "/a.B/C")
	w.client.call(3, "/a.B/C")
	w.client.data(1, true, message(strings.Repeat("a", 900)))
	w.client.data(3, true, message(strings.Repeat("b", 900)))
	w.server.headers(3, true, ":status: 200", "grpc-status: 0")
	w.server.headers(1, true, ":status: 200", "grpc-status: 0")
	w.expect(`3 /a.B/C 0 →1/900 ""… ←0/0`, `1 /a.B/C 0 →1/900 "aaaaaaaaaaaaaaaaaaaaa..." ←0/0`)
	if w.conn.buffers.used != 0 || w.conn.held != 0 {
		t.Errorf("used %d, held %d after all calls ended", w.conn.buffers.used, w.conn.held)
	}
}

// What is kept of a message is its beginning. Were bytes kept again behind a
// hole, the inside of a secret could read as a field to show.
func TestWhatIsKeptIsAPrefix(t *testing.T) {
	w := newWire(t)
	w.conn.limits.ConnBytes = 20
	w.greet()
	w.client.call(1, "/a.B/C")
	w.client.data(1, false, message("fifteen bytes .")) // leaves five
	w.client.call(3, "/a.B/D")
	m := message("BEGIN-first-SECOND!!")
	w.client.data(3, false, m[:5+12])
	must(t, w.client.WriteRSTStream(1, http2.ErrCodeCancel)) // frees fifteen
	w.client.say()
	w.client.data(3, true, m[5+12:])
	w.server.headers(3, true, ":status: 200", "grpc-status: 0")
	w.expect(`1 /a.B/C 1 "context canceled" →1/15 "fifteen bytes ." ←0/0`, `3 /a.B/D 0 →1/20 "BEGIN"… ←0/0`)
}

// An open call holds little of its headers, however long they were.
func TestHeadersOfOpenCallsAreBounded(t *testing.T) {
	w := newWire(t).greet()
	long := strings.Repeat("x", 15<<10)
	for id := uint32(1); id < 20; id += 2 {
		w.client.call(id, "/a.B/"+long, "tracestate: "+long, "traceparent: "+long, "grpc-encoding: "+long)
	}
	for _, s := range w.conn.streams {
		held := len(s.call.Path) + len(s.call.Tracestate) + len(s.call.Traceparent) + len(s.request.encoding)
		if held > maxPath+maxTracestate+maxTraceparent+maxShort {
			t.Fatalf("%d bytes of headers are held", held)
		}
	}
}

func TestTimeouts(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"": 0, "1S": time.Second, "99999999H": 1<<63 - 1, "120000m": 2 * time.Minute, "5n": 5,
		"S": 0, "123456789S": 0, "1x": 0, "-1S": 0, "2M": 2 * time.Minute, "7u": 7 * time.Microsecond,
	} {
		if got := parseTimeout(s); got != want {
			t.Errorf("%q: %v, expected %v", s, got, want)
		}
	}
}
