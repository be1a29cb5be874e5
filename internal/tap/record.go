package tap

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
)

// record makes of what the wire had what people are told, and what the call says of
// the objects that it is about.
func (t *Tap) record(c *conn, k *codec.Call) (*call.Record, schema.Facts) {
	r := &call.Record{
		Start: t.wall.Of(k.Start), DurationMS: float64(k.End.Sub(k.Start)) / 1e6, State: call.Done,
		Socket: t.hello.Listen,
		Caller: call.Caller{PID: int(c.peers.ClientPID), Exe: c.peers.ClientExe},
		Server: call.Server{Name: baseName(c.peers.ServerExe)}, // until it says its name itself

		RequestBytes: k.Request.Bytes, RequestMessages: k.Request.Count,
		ResponseBytes: k.Response.Bytes, ResponseMessages: k.Response.Count,
		Connection: c.id, Stream: k.Stream,
	}
	r.Message, r.Truncated = t.cfg.Policy.Message(k.Message, maxMessage)
	if k.Lost {
		r.State = call.Lost
	} else {
		r.Code = call.CodeName(k.Code)
	}
	r.Service, r.Method = splitPath(k.Path)
	trace(r, k.Traceparent, k.Tracestate)
	var cut bool
	r.Details, cut = t.cfg.Policy.Details(k.Details, t.cfg.PayloadBytes)
	r.Truncated = r.Truncated || cut

	m := t.cfg.APIs.Lookup(r.Service, r.Method)
	if r.Known = m != nil; !r.Known { // nobody knows it: what there is more than one of is a stream
		r.Service, r.Method = schema.ScrubName(r.Service), schema.ScrubName(r.Method)
		m = &schema.Method{
			Request: &schema.Message{}, ClientStreaming: k.Request.Count > 1,
			Response: &schema.Message{}, ServerStreaming: k.Response.Count > 1,
		}
	}
	request, response := t.kept(&k.Request), t.kept(&k.Response)
	r.Request, cut = t.show(m.Request, m.ClientStreaming, request, k.Request.Count)
	r.Truncated = r.Truncated || cut
	r.Response, cut = t.show(m.Response, m.ServerStreaming, response, k.Response.Count)
	r.Truncated = r.Truncated || cut
	if len(response) > 0 && r.Code == "OK" {
		if code, known := m.ExitCode(response[0]); known {
			r.ExitCode = &code
		}
	}
	return r, m.Facts(first(request), first(response))
}

// maxMessage bounds a status message, in bytes: to scrub costs by the length.
// The longest that are seen on nodes have 9 KB.
const maxMessage = 16 << 10

// kept is what was kept of a direction's messages, decompressed.
func (t *Tap) kept(m *codec.Messages) []schema.Prefix {
	all := make([]schema.Prefix, len(m.First))
	for i := range m.First {
		one := &m.First[i]
		all[i].Bytes, all[i].Whole = one.Plain(&t.scratch, codec.DefaultLimits().KeepBytes)
		if one.Compressed() { // there is one scratch buffer
			all[i].Bytes = bytes.Clone(all[i].Bytes)
		}
		all[i].Past, _ = one.Rest().(*schema.Past)
	}
	return all
}

func first(all []schema.Prefix) []byte {
	if len(all) == 0 {
		return nil
	}
	return all[0].Bytes
}

// show shows a direction's message, or for a stream an array of its first.
func (t *Tap) show(m *schema.Message, stream bool, kept []schema.Prefix, count int64) (out json.RawMessage, cut bool) {
	switch {
	case t.cfg.Policy.Payload == schema.None, len(kept) == 0:
		return nil, false
	case !stream:
		return t.render.Render(m, kept[0], t.cfg.PayloadBytes)
	}
	shown := int64(0)
	for _, p := range kept {
		b, c := t.render.Render(m, p, t.cfg.PayloadBytes-len(out)-len("[]"))
		if b == nil {
			break
		}
		out = append(append(out, ','), b...)
		cut = cut || c
		shown++
	}
	if shown == 0 {
		return nil, true
	}
	out[0] = '['
	return append(out, ']'), cut || shown < count
}

// splitPath splits "/package.Service/Method".
func splitPath(path string) (service, method string) {
	path = strings.ToValidUTF8(strings.TrimPrefix(path, "/"), "\uFFFD")
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

func baseName(exe string) string {
	if exe == "" {
		return ""
	}
	// A binary that was replaced while it runs, as in every upgrade.
	return filepath.Base(strings.TrimSuffix(exe, " (deleted)"))
}
