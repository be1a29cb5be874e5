package tap

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
)

// record makes of what the wire had what people are told.
func (t *Tap) record(c *conn, k *codec.Call) *call.Record {
	r := &call.Record{
		Start: t.wall.Of(k.Start), DurationMS: float64(k.End.Sub(k.Start)) / 1e6, State: call.Done,
		Socket: t.hello.Listen,
		Caller: call.Caller{PID: int(c.peers.ClientPID), Exe: c.peers.ClientExe},

		RequestBytes: k.Request.Bytes, RequestMessages: k.Request.Count,
		ResponseBytes: k.Response.Bytes, ResponseMessages: k.Response.Count,
		Connection: c.id, Stream: k.Stream,
	}
	r.Message, r.Truncated = message(k.Message)
	if k.Lost {
		r.State = call.Lost
	} else {
		r.Code = call.CodeName(k.Code)
	}
	r.Service, r.Method = splitPath(k.Path)
	trace(r, k.Traceparent, k.Tracestate)

	var facts schema.Facts
	if m := schema.Lookup(r.Service, r.Method); m != nil {
		var cut bool
		r.Request, cut = t.render(m.Request, false, &k.Request)
		r.Truncated = r.Truncated || cut
		r.Response, cut = t.render(m.Response, m.ServerStreaming, &k.Response)
		r.Truncated = r.Truncated || cut
		request, _ := t.first(&k.Request)
		response, whole := t.first(&k.Response)
		facts = m.Facts(request, response)
		if code, known := m.ExitCode(response, whole); known && r.Code == "OK" {
			r.ExitCode = &code
		}
	}
	t.cfg.Pods.Complete(r, facts)
	if r.Server.Name == "" { // until it says its name itself
		r.Server.Name = baseName(c.peers.ServerExe)
	}
	return r
}

// maxMessage bounds a status message, in bytes: to scrub costs by the length.
// The longest that are seen on nodes have 9 KB.
const maxMessage = 16 << 10

func message(s string) (_ string, cut bool) {
	if len(s) > maxMessage {
		s, cut = strings.ToValidUTF8(s[:maxMessage], "")+"…", true
	}
	return schema.Scrub(s), cut
}

// render shows a direction's message, or for a stream an array of its first.
func (t *Tap) render(d protoreflect.MessageDescriptor, stream bool, m *codec.Messages) (out json.RawMessage, cut bool) {
	if !stream {
		if len(m.First) == 0 {
			return nil, false
		}
		data, whole := m.First[0].Plain(&t.scratch, codec.DefaultLimits().KeepBytes)
		return schema.Render(d, data, whole, t.cfg.PayloadBytes)
	}
	shown := int64(0)
	for i := range m.First {
		data, whole := m.First[i].Plain(&t.scratch, codec.DefaultLimits().KeepBytes)
		b, c := schema.Render(d, data, whole, t.cfg.PayloadBytes-len(out)-len("[,]"))
		if b == nil {
			break
		}
		out = append(append(out, ','), b...)
		cut = cut || c
		shown++
	}
	if shown == 0 {
		return nil, m.Count > 0
	}
	out[0] = '['
	return append(out, ']'), cut || shown < m.Count
}

// first is what was kept of a direction's first message, decompressed; a copy
// where it was compressed, for there is one scratch buffer.
func (t *Tap) first(m *codec.Messages) (data []byte, whole bool) {
	if len(m.First) == 0 {
		return nil, false
	}
	data, whole = m.First[0].Plain(&t.scratch, codec.DefaultLimits().KeepBytes)
	if m.First[0].Compressed() {
		data = bytes.Clone(data)
	}
	return data, whole
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
