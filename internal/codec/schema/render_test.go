package schema

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// unlimited is a budget that nothing in these tests exceeds.
const unlimited = 1 << 20

// render renders under Safe a message that is all there, or not.
func render(m *Message, wire []byte, whole bool, budget int) ([]byte, bool) {
	return (&Renderer{Policy: Policy{}}).Render(m, Prefix{Bytes: wire, Whole: whole}, budget)
}

// TestRenderShowsWhatIsListed: of every message of every method with every
// field set, exactly the listed fields show, with their values, and all others
// by name, type and length; under Full all but what is secret.
func TestRenderShowsWhatIsListed(t *testing.T) {
	for _, p := range payloads() {
		m := filled(p.api, p.d, deep)
		wire := marshal(t, m)
		for _, full := range []bool{false, true} {
			policy := Policy{}
			if full {
				policy.Payload = Full
			}
			out, trimmed := (&Renderer{Policy: policy}).Render(p.plan, Prefix{Bytes: wire, Whole: true}, unlimited)
			want := oracle{p.api, full}.object(m.ProtoReflect())
			if got := parsed(t, out); !reflect.DeepEqual(got, want) {
				t.Errorf("%s, full %v:\n got %v\nwant %v", p.d.FullName(), full, got, want)
			}
			if trimmed {
				t.Errorf("%s, full %v: trimmed, though there was room", p.d.FullName(), full)
			}
		}
		checkCanaries(t, p, m.ProtoReflect(), wire, unlimited)
	}
}

// checkCanaries: every canary that shows is one that may, and is whole.
func checkCanaries(t *testing.T, p payload, m protoreflect.Message, wire []byte, budget int) {
	t.Helper()
	all, _ := json.Marshal(oracle{p.api, false}.object(m))
	out, _ := render(p.plan, wire, len(wire) == proto.Size(m.Interface()), budget)
	for rest := string(out); ; {
		_, after, found := strings.Cut(rest, `"canary/`)
		if !found {
			return
		}
		value, next, _ := strings.Cut(after, `"`)
		rest = next
		beginning, _, cut := strings.Cut(value, "…") // free text may be cut
		if want := `"canary/` + beginning; !cut && !bytes.Contains(all, []byte(want+`"`)) || !bytes.Contains(all, []byte(want)) {
			t.Fatalf("%s shows %q", p.d.FullName(), value)
		}
	}
}

// TestRenderPrefixes: any prefix of any message renders as JSON within any
// budget, and shows nothing that the whole message would not.
func TestRenderPrefixes(t *testing.T) {
	for _, p := range payloads() {
		m := filled(p.api, p.d, 3)
		wire := marshal(t, m)
		for n := 0; n <= len(wire); n += 1 + len(wire)/8 {
			for _, budget := range []int{MinBudget, 100, 2048} {
				out, trimmed := render(p.plan, wire[:n:n], false, budget)
				if len(out) > budget || !trimmed {
					t.Fatalf("%s, %d bytes, budget %d: %d bytes, trimmed %v", p.d.FullName(), n, budget, len(out), trimmed)
				}
				parsed(t, out)
				checkCanaries(t, p, m.ProtoReflect(), wire[:n:n], budget)
			}
		}
	}
}

// TestRenderBudget: whatever the budget, the output keeps to it, and says that it
// is trimmed exactly if it is not the whole.
func TestRenderBudget(t *testing.T) {
	for _, name := range []protoreflect.FullName{
		"runtime.v1.CreateContainerRequest", "runtime.v1.ListContainersResponse", "csi.v1.NodePublishVolumeRequest", "csi.v1.NodeGetInfoResponse",
		"etcdserverpb.WatchResponse",
	} {
		p := message(t, name)
		wire := marshal(t, filled(p.api, p.d, deep))
		all, _ := render(p.plan, wire, true, unlimited)
		for budget := 0; budget < 5*len(all); budget += 1 + budget/50 {
			out, trimmed := render(p.plan, wire, true, budget)
			if budget < MinBudget {
				if out != nil || !trimmed {
					t.Fatalf("%s, budget %d: %q, trimmed %v", name, budget, out, trimmed)
				}
				continue
			}
			if parsed(t, out); len(out) > budget || trimmed == bytes.Equal(out, all) {
				t.Fatalf("%s, budget %d: %d bytes, trimmed %v\n%s", name, budget, len(out), trimmed, out)
			}
		}
	}
}

func TestRender(t *testing.T) {
	tag := protowire.AppendTag
	text := func(b []byte, n protowire.Number, s string) []byte {
		return protowire.AppendString(tag(b, n, protowire.BytesType), s)
	}
	number := func(b []byte, n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(tag(b, n, protowire.VarintType), v)
	}
	const stop, list, portForward, sandbox = "runtime.v1.StopContainerRequest", "csi.v1.ListVolumesResponse.VolumeStatus",
		"runtime.v1.PortForwardRequest", "runtime.v1.RunPodSandboxRequest"
	metadata := func(n protowire.Number, s string) string { return string(text(nil, 1, string(text(nil, n, s)))) }

	tests := map[string]struct {
		message protoreflect.FullName
		wire    []byte
		prefix  bool
		budget  int
		want    string
		trimmed bool
	}{
		"empty":                 {message: stop, want: `{}`},
		"empty prefix":          {message: stop, prefix: true, want: `{}`, trimmed: true},
		"no listed field":       {message: "runtime.v1.ExecResponse", wire: text(nil, 1, "https://token"), want: `{"url":"‹string, 13 bytes›"}`},
		"unknown field number":  {message: stop, wire: text(number(nil, 999, 1), 1, "c1"), want: `{"container_id":"c1","999":"‹varint›"}`},
		"negative":              {message: stop, wire: number(nil, 2, math.MaxUint64), want: `{"timeout":-1}`},
		"the last one wins":     {message: stop, wire: text(text(nil, 1, "a"), 1, "b"), want: `{"container_id":"b"}`},
		"wrong wire type":       {message: stop, wire: text(number(nil, 1, 5), 2, "x"), want: `{"1":"‹varint›","2":"‹1 byte›"}`},
		"escapes":               {message: stop, wire: text(nil, 1, "\"\\\n\t\x01\x7f\u0085ä\u2028<"), want: "{\"container_id\":\"\\\"\\\\\\n\\t\\u0001\\u007f\\u0085ä\u2028<\"}"},
		"invalid UTF-8":         {message: stop, wire: text(nil, 1, "a\xff\xe2\x82z"), want: "{\"container_id\":\"a\ufffd\ufffd\ufffdz\"}"},
		"string cut by prefix":  {message: stop, wire: text(nil, 1, "abcdef")[:5], prefix: true, want: `{"container_id":"‹string, 6 bytes›"}`, trimmed: true},
		"rune cut by prefix":    {message: stop, wire: text(nil, 1, "ab€€")[:9], prefix: true, want: `{"container_id":"‹string, 8 bytes›"}`, trimmed: true},
		"number cut by prefix":  {message: stop, wire: number(text(nil, 1, "a"), 2, 1<<40)[:5], prefix: true, want: `{"container_id":"a"}`, trimmed: true},
		"length beyond the end": {message: stop, wire: text(number(nil, 2, 3), 1, "abcdef")[:6], want: `{"timeout":3}`, trimmed: true},
		"group": {message: stop, wire: text(append(text(tag(nil, 7, protowire.StartGroupType), 1, "no"), tag(nil, 7, protowire.EndGroupType)...), 1, "c1"),
			want: `{"container_id":"c1","7":"‹group›"}`},
		"stray end of group": {message: stop, wire: text(tag(number(nil, 2, 3), 7, protowire.EndGroupType), 1, "no"), want: `{"timeout":3}`, trimmed: true},
		"long string": {message: stop, wire: number(text(nil, 1, strings.Repeat("x", 1000)), 2, 5), budget: 128,
			want: `{"container_id":"‹string, 1000 bytes›","timeout":5}`, trimmed: true},
		"no room for a string":   {message: stop, wire: text(nil, 1, "abcdef"), budget: 20, want: `{}`, trimmed: true},
		"just the room":          {message: stop, wire: text(nil, 1, "abcdef"), budget: 25, want: `{"container_id":"abcdef"}`},
		"list":                   {message: list, wire: text(text(nil, 1, "a"), 1, ""), want: `{"published_node_ids":["a",""]}`},
		"list cut":               {message: list, wire: text(text(text(text(nil, 1, "node-a"), 1, "node-b"), 1, "node-long-c"), 1, "node-d"), budget: 60, want: `{"published_node_ids":["node-a","node-b","‹2 more›"]}`, trimmed: true},
		"packed and unpacked":    {message: portForward, wire: number(text(text(nil, 1, "s"), 2, "\x50\xbb\x03"), 2, 8080), want: `{"pod_sandbox_id":"s","port":[80,443,8080]}`},
		"interleaved list":       {message: portForward, wire: number(text(number(nil, 2, 1), 1, "s"), 2, 2), want: `{"pod_sandbox_id":"s","port":[1,2]}`},
		"packed run cut":         {message: portForward, wire: text(nil, 2, "\x50\xbb"), prefix: true, want: `{"port":[80,"‹more›"]}`, trimmed: true},
		"messages merge":         {message: sandbox, wire: text(text(nil, 1, metadata(1, "pod")), 1, metadata(3, "ns")), want: `{"config":{"metadata":{"namespace":"ns","name":"pod"}}}`},
		"pieces do not run into": {message: sandbox, wire: text(text(nil, 1, "\x12\x7f"), 1, metadata(3, "ns")), want: `{"config":{"metadata":{"namespace":"ns"}}}`, trimmed: true},
		"enums":                  {message: "runtime.v1.Container", wire: number(nil, 6, 1), want: `{"state":"CONTAINER_RUNNING"}`},
		"an enum of the future":  {message: "runtime.v1.Container", wire: number(nil, 6, 77), want: `{"state":77}`},
		"map: listed keys, last wins": {message: "runtime.v1.Container",
			wire: text(text(text(nil, 8, mapEntry("io.kubernetes.pod.name", "a")), 8, mapEntry("app", "no")), 8, mapEntry("io.kubernetes.pod.name", "b")),
			want: `{"labels":{"io.kubernetes.pod.name":"b","…":"‹1 more›"}}`},
		"map: no listed key":      {message: "runtime.v1.Container", wire: text(nil, 8, mapEntry("app", "no")), want: `{"labels":{"…":"‹1 more›"}}`},
		"map: key without value":  {message: "runtime.v1.Container", wire: text(nil, 8, string(text(nil, 1, "io.kubernetes.pod.uid"))), want: `{"labels":{"io.kubernetes.pod.uid":""}}`},
		"map: value not reached":  {message: "runtime.v1.Container", wire: text(nil, 8, mapEntry("io.kubernetes.pod.uid", "u"))[:25], prefix: true, want: `{"labels":{"…":"‹1+ more›"}}`, trimmed: true},
		"map: value cut":          {message: "runtime.v1.Container", wire: text(nil, 8, mapEntry("io.kubernetes.pod.uid", "u-1"))[:28], prefix: true, want: `{"labels":{"io.kubernetes.pod.uid":"‹string, 3 bytes›","…":"‹0+ more›"}}`, trimmed: true},
		"map: a key that goes on": {message: "runtime.v1.Container", wire: text(nil, 8, mapEntry("io.kubernetes.pod.uid.x", "no"))[:25], prefix: true, want: `{"labels":{"…":"‹1+ more›"}}`, trimmed: true},
		"doubles":                 {message: "runtime.v1.PsiData", wire: double(double(double(nil, 2, math.NaN()), 3, math.Inf(-1)), 4, 1e21), want: `{"Avg10":"NaN","Avg60":"-Infinity","Avg300":1e+21}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.budget == 0 {
				test.budget = 2048
			}
			out, trimmed := render(message(t, test.message).plan, test.wire, !test.prefix, test.budget)
			if string(out) != test.want || trimmed != test.trimmed {
				t.Errorf("got  %s, trimmed %v\nwant %s, trimmed %v", out, trimmed, test.want, test.trimmed)
			}
		})
	}
}

func mapEntry(key, value string) string {
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), key)
	return string(protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), value))
}

func double(b []byte, n protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, n, protowire.Fixed64Type), math.Float64bits(v))
}

// TestBytes: bytes show as the text that they are, and else as base64; whole, or
// by their length.
func TestBytes(t *testing.T) {
	put := message(t, "etcdserverpb.PutRequest").plan
	for _, c := range []struct {
		key    string
		budget int
		want   string
	}{
		{"/registry/pods/a/b", 1000, `{"key":"/registry/pods/a/b"}`},
		{"\x00", 1000, `{"key":"\u0000"}`},
		{"\xff\xfe", 1000, `{"key":"//4="}`},
		{strings.Repeat("\xff", 100), 100, `{"key":"‹100 bytes›"}`},
		{strings.Repeat("k", 100), 100, `{"key":"‹100 bytes›"}`},
	} {
		wire := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), c.key)
		if out, _ := render(put, wire, true, c.budget); string(out) != c.want {
			t.Errorf("%q: %s", c.key, out)
		}
	}
}

// TestAnyKey: of a map that shows any key, the first ones show, and the last
// value of each; but none whose key says that it is a credential.
func TestAnyKey(t *testing.T) {
	var wire []byte
	for i := range 3 * maxKeys {
		key := string(rune('a'+i%(maxKeys+1))) + "/zone"
		wire = protowire.AppendString(protowire.AppendTag(wire, 1, protowire.BytesType), mapEntry(key, strings.Repeat("z", i/(maxKeys+1)+1)))
	}
	topology := message(t, "csi.v1.Topology").plan
	out, trimmed := render(topology, wire, true, 2048)
	segments := parsed(t, out)["segments"].(map[string]any)
	if len(segments) != maxKeys+1 || !trimmed || segments["a/zone"] != "zzz" || segments["…"] != "‹2 more›" {
		t.Errorf("trimmed %v: %s", trimmed, out)
	}
	for _, key := range []string{"password", "adminToken", "csi.storage.k8s.io/serviceAccount.tokens", "AWS_SECRET_ACCESS_KEY"} {
		wire := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), mapEntry(key, "hunter2"))
		if out, _ := render(topology, wire, true, 2048); bytes.Contains(out, []byte("hunter2")) || !bytes.Contains(out, []byte("‹string, 7 bytes›")) {
			t.Errorf("%s shows: %s", key, out)
		}
	}
	wire = protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), mapEntry("a password=hunter2", "x"))
	if out, _ := render(topology, wire, true, 2048); string(out) != `{"segments":{"a password=‹scrubbed›":"‹string, 1 byte›"}}` {
		t.Errorf("a key shows: %s", out)
	}
}

// TestUnknownMessage: of a message that nobody knows, field numbers, wire types
// and lengths show, whatever is asked for.
func TestUnknownMessage(t *testing.T) {
	var wire []byte
	for range 2 {
		wire = protowire.AppendString(protowire.AppendTag(wire, 1, protowire.BytesType), "hunter2")
	}
	wire = protowire.AppendVarint(protowire.AppendTag(wire, 2, protowire.VarintType), 7777)
	wire = protowire.AppendFixed64(protowire.AppendTag(wire, 40, protowire.Fixed64Type), 7777)
	wire = protowire.AppendFixed32(protowire.AppendTag(wire, 3, protowire.Fixed32Type), 7777)
	wire = protowire.AppendString(protowire.AppendTag(wire, 9, protowire.BytesType), "x")
	const want = `{"1":"‹2 entries, 14 bytes›","2":"‹varint›","40":"‹fixed64›","3":"‹fixed32›","9":"‹1 byte›"}`
	for _, level := range []Level{Safe, Full} {
		out, trimmed := (&Renderer{Policy: Policy{Payload: level}}).Render(&Message{}, Prefix{Bytes: wire, Whole: true}, 2048)
		if string(out) != want || trimmed {
			t.Errorf("%s, trimmed %v", out, trimmed)
		}
	}
	many := wire
	for n := range protowire.Number(100) {
		many = protowire.AppendVarint(protowire.AppendTag(many, n+50, protowire.VarintType), 1)
	}
	if out, trimmed := render(&Message{}, many, true, 1<<16); !trimmed || len(parsed(t, out)) != maxStrangers {
		t.Errorf("trimmed %v: %s", trimmed, out)
	}
}

// TestAppendString: a string within any limit is JSON, at most so long, and a
// beginning of what was meant.
func TestAppendString(t *testing.T) {
	const pieces = "ab\"\\\n\x00é€😀\xff\x9b xyz"
	random := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		s := make([]byte, random.IntN(30))
		for i := range s {
			s[i] = pieces[random.IntN(len(pieces))]
		}
		if random.IntN(2) == 0 {
			s = []byte(strings.Repeat(pieces, 2))[random.IntN(9):]
		}
		cut, limit := random.IntN(2) == 0, random.IntN(60)
		out, complete, ok := appendString([]byte("<"), s, limit, cut, 7)
		if !ok {
			if string(out) != "<" || limit >= len(`"… ‹7 bytes›"`) {
				t.Fatalf("%q in %d: %q", s, limit, out)
			}
			continue
		}
		var got string
		if err := json.Unmarshal(out[1:], &got); err != nil || len(out)-1 > limit || !utf8.Valid(out) {
			t.Fatalf("%q in %d: %q: %v", s, limit, out, err)
		}
		meant := strings.Join(strings.Split(string([]rune(string(s))), ""), "")
		switch beginning, elided := strings.CutSuffix(got, "… ‹7 bytes›"); {
		case complete && (got != meant || cut), !complete && (!elided || !strings.HasPrefix(meant, beginning)):
			t.Fatalf("%q in %d, cut %v: %q, complete %v", s, limit, cut, got, complete)
		}
	}
}

// TestRenderHostile: bytes made to be slow or to exhaust memory are neither.
func TestRenderHostile(t *testing.T) {
	const size = 1 << 20
	repeat := func(piece string) []byte { return []byte(strings.Repeat(piece, size/len(piece))) }
	nested := []byte{}
	for range 2000 {
		nested = protowire.AppendBytes([]byte{0x0a}, nested)
	}
	label := "\x3a\x02\x0a\x00"
	var messages []payload
	for _, name := range []protoreflect.FullName{
		"runtime.v1.RunPodSandboxRequest", "runtime.v1.ContainerStatusResponse", "csi.v1.NodePublishVolumeRequest", "csi.v1.Topology",
		"csi.v1.NodeGetInfoResponse", "etcdserverpb.TxnRequest",
	} {
		messages = append(messages, message(t, name))
	}
	for name, wire := range map[string][]byte{
		"tiny fields":        repeat("\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x3a\x00"),
		"pieces of messages": repeat("\x0a\x02\x0a\x00"),
		"labels":             protowire.AppendBytes([]byte{0x0a}, repeat(label)),
		"groups":             repeat("\x0b"),
		"ended groups":       repeat("\x0b\x0c"),
		"nested":             nested,
		"huge length":        []byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01abc"),
		"endless varint":     repeat("\xff"),
		"field number zero":  repeat("\x00"),
		"controls":           protowire.AppendBytes([]byte{0x0a}, repeat("\x01")),
	} {
		start := time.Now()
		for _, p := range messages {
			for _, from := range []Prefix{{wire, true, nil}, {wire, false, nil}, {wire, false, Follow(wire)}} {
				for _, level := range []Level{Safe, Full} {
					out, _ := (&Renderer{Policy: Policy{Payload: level}}).Render(p.plan, from, 2048)
					if parsed(t, out); len(out) > 2048 {
						t.Errorf("%s of %s: %d bytes", name, p.d.FullName(), len(out))
					}
				}
			}
		}
		// A hundred times what it takes: the test is of the order of growth.
		if took := time.Since(start) / time.Duration(6*len(messages)); took > time.Second {
			t.Errorf("%s: %v a message of %d bytes", name, took, len(wire))
		}
	}
}

// control: a line break, or what a terminal may obey. A record is one line.
func control(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

// FuzzRender: any bytes, whole or not, render as JSON within any budget, without
// line breaks and control characters. If they are a message, what shows of it
// without limit is what the oracle says.
func FuzzRender(f *testing.F) {
	all := payloads()
	for i, p := range all {
		wire := marshal(f, filled(p.api, p.d, 3))
		f.Add(wire, uint16(i), uint16(2048), true)
		f.Add(wire[:len(wire)*2/3], uint16(i), uint16(100), false)
	}
	f.Fuzz(func(t *testing.T, wire []byte, index, budget uint16, whole bool) {
		p := all[int(index)%len(all)]
		for _, policy := range []Policy{{}, {Payload: Full}, {NoMessages: true}} {
			out, trimmed := (&Renderer{Policy: policy}).Render(p.plan, Prefix{Bytes: wire, Whole: whole}, int(budget))
			switch {
			case budget < MinBudget:
				if out != nil {
					t.Fatalf("budget %d: %q", budget, out)
				}
			case !json.Valid(out) || bytes.ContainsFunc(out, control) || !utf8.Valid(out) || len(out) > int(budget) || !whole && !trimmed:
				t.Fatalf("budget %d, trimmed %v: %q", budget, trimmed, out)
			}
		}
		checkOracle(t, p, wire)
		for m := range Methods() {
			if m.Request == p.plan || m.Response == p.plan {
				m.Facts(wire, wire)
			}
		}
	})
}

func checkOracle(t *testing.T, p payload, wire []byte) {
	m := dynamicpb.NewMessage(p.d)
	if proto.Unmarshal(wire, m) != nil {
		return
	}
	out, trimmed := render(p.plan, wire, true, 1<<24)
	if trimmed {
		return // more keys than show
	}
	o := oracle{p.api, false}
	got, want := o.comparable(p.d, parsed(t, out)), o.comparable(p.d, o.object(m))
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s %x:\n got %v\nwant %v", p.d.FullName(), wire, got, want)
	}
}
