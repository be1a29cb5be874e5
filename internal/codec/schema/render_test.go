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
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// unlimited is a budget that nothing in these tests exceeds.
const unlimited = 1 << 20

// descriptor finds a message by its name.
func descriptor(name protoreflect.FullName) protoreflect.MessageDescriptor {
	return reachable()[name]
}

// TestRenderShowsWhatIsListed: of every message of every method with every
// field set, exactly the listed fields show, with their values.
func TestRenderShowsWhatIsListed(t *testing.T) {
	for _, d := range payloads() {
		m := filled(d)
		out, trimmed := Render(d, marshal(t, m), true, unlimited)
		if got, want := parsed(t, out), oracle(m.ProtoReflect()); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", d.FullName(), got, want)
		}
		if trimmed {
			t.Errorf("%s: trimmed, though there was room", d.FullName())
		}
		checkCanaries(t, m.ProtoReflect(), out)
	}
}

// checkCanaries: every canary in out is one that may show, whole or cut.
func checkCanaries(t *testing.T, m protoreflect.Message, out []byte) {
	t.Helper()
	all, _ := json.Marshal(oracle(m))
	for rest := string(out); ; {
		_, after, found := strings.Cut(rest, `"canary:`)
		if !found {
			return
		}
		value, next, _ := strings.Cut(after, `"`)
		rest = next
		whole, cut := strings.CutSuffix(value, "…")
		if want := `"canary:` + whole; !cut && !bytes.Contains(all, []byte(want+`"`)) || !bytes.Contains(all, []byte(want)) {
			t.Fatalf("%s shows %q", m.Descriptor().FullName(), value)
		}
	}
}

// TestRenderPrefixes: any prefix of any message renders as JSON within any
// budget, and shows nothing that the whole message would not.
func TestRenderPrefixes(t *testing.T) {
	for _, d := range payloads() {
		m := filled(d).ProtoReflect()
		wire := marshal(t, m.Interface())
		for n := 0; n <= len(wire); n += 1 + len(wire)/50 {
			for _, budget := range []int{MinBudget, 17, 100, 2048, unlimited} {
				out, trimmed := Render(d, wire[:n:n], false, budget)
				if len(out) > budget || !trimmed {
					t.Fatalf("%s, %d bytes, budget %d: %d bytes, trimmed %v", d.FullName(), n, budget, len(out), trimmed)
				}
				parsed(t, out)
				checkCanaries(t, m, out)
			}
		}
	}
}

// TestRenderBudget: whatever the budget, the output keeps to it, and says that it
// is trimmed exactly if it is not the whole.
func TestRenderBudget(t *testing.T) {
	for _, name := range []protoreflect.FullName{
		"runtime.v1.CreateContainerRequest", "runtime.v1.ListContainersResponse", "csi.v1.NodePublishVolumeRequest", "csi.v1.NodeGetInfoResponse",
	} {
		d := descriptor(name)
		wire := marshal(t, filled(d))
		all, _ := Render(d, wire, true, unlimited)
		for budget := 0; budget < 5*len(all); budget += 1 + budget/50 {
			out, trimmed := Render(d, wire, true, budget)
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
		"no listed field":       {message: "runtime.v1.ExecResponse", wire: text(nil, 1, "https://token"), want: `{}`},
		"unknown field number":  {message: stop, wire: text(number(nil, 999, 1), 1, "c1"), want: `{"container_id":"c1"}`},
		"negative":              {message: stop, wire: number(nil, 2, math.MaxUint64), want: `{"timeout":-1}`},
		"the last one wins":     {message: stop, wire: text(text(nil, 1, "a"), 1, "b"), want: `{"container_id":"b"}`},
		"wrong wire type":       {message: stop, wire: text(number(nil, 1, 5), 2, "x"), want: `{}`},
		"escapes":               {message: stop, wire: text(nil, 1, "\"\\\n\t\x01\x7f\u0085ä\u2028<"), want: "{\"container_id\":\"\\\"\\\\\\n\\t\\u0001\\u007f\\u0085ä\u2028<\"}"},
		"invalid UTF-8":         {message: stop, wire: text(nil, 1, "a\xff\xe2\x82z"), want: "{\"container_id\":\"a\ufffd\ufffd\ufffdz\"}"},
		"string cut by prefix":  {message: stop, wire: text(nil, 1, "abcdef")[:5], prefix: true, want: `{"container_id":"abc…"}`, trimmed: true},
		"rune cut by prefix":    {message: stop, wire: text(nil, 1, "ab€€")[:9], prefix: true, want: `{"container_id":"ab€…"}`, trimmed: true},
		"number cut by prefix":  {message: stop, wire: number(text(nil, 1, "a"), 2, 1<<40)[:5], prefix: true, want: `{"container_id":"a"}`, trimmed: true},
		"length beyond the end": {message: stop, wire: text(number(nil, 2, 3), 1, "abcdef")[:6], want: `{"timeout":3}`, trimmed: true},
		"group": {message: stop, wire: text(append(text(tag(nil, 7, protowire.StartGroupType), 1, "no"), tag(nil, 7, protowire.EndGroupType)...), 1, "c1"),
			want: `{"container_id":"c1"}`},
		"stray end of group": {message: stop, wire: text(tag(number(nil, 2, 3), 7, protowire.EndGroupType), 1, "no"), want: `{"timeout":3}`, trimmed: true},
		"long string": {message: stop, wire: number(text(nil, 1, strings.Repeat("x", 1000)), 2, 5), budget: 128,
			want: `{"container_id":"` + strings.Repeat("x", 27) + `…","timeout":5}`, trimmed: true},
		"no room for a string":   {message: stop, wire: text(nil, 1, "abcdef"), budget: 20, want: `{}`, trimmed: true},
		"a little room":          {message: stop, wire: text(nil, 1, "abcdef"), budget: 24, want: `{"container_id":"ab…"}`, trimmed: true},
		"just the room":          {message: stop, wire: text(nil, 1, "abcdef"), budget: 25, want: `{"container_id":"abcdef"}`},
		"list":                   {message: list, wire: text(text(nil, 1, "a"), 1, ""), want: `{"published_node_ids":["a",""]}`},
		"list cut":               {message: list, wire: text(text(text(nil, 1, "node-a"), 1, "node-b"), 1, "node-c"), budget: 42, want: `{"published_node_ids":["node-a","node-b"]}`, trimmed: true},
		"packed and unpacked":    {message: portForward, wire: number(text(text(nil, 1, "s"), 2, "\x50\xbb\x03"), 2, 8080), want: `{"pod_sandbox_id":"s","port":[80,443,8080]}`},
		"interleaved list":       {message: portForward, wire: number(text(number(nil, 2, 1), 1, "s"), 2, 2), want: `{"pod_sandbox_id":"s","port":[1,2]}`},
		"packed run cut":         {message: portForward, wire: text(nil, 2, "\x50\xbb"), prefix: true, want: `{"port":[80]}`, trimmed: true},
		"messages merge":         {message: sandbox, wire: text(text(nil, 1, metadata(1, "pod")), 1, metadata(3, "ns")), want: `{"config":{"metadata":{"namespace":"ns","name":"pod"}}}`},
		"pieces do not run into": {message: sandbox, wire: text(text(nil, 1, "\x12\x7f"), 1, metadata(3, "ns")), want: `{"config":{"metadata":{"namespace":"ns"}}}`, trimmed: true},
		"enums":                  {message: "runtime.v1.Container", wire: number(nil, 6, 1), want: `{"state":"CONTAINER_RUNNING"}`},
		"an enum of the future":  {message: "runtime.v1.Container", wire: number(nil, 6, 77), want: `{"state":77}`},
		"map: listed keys, last wins": {message: "runtime.v1.Container",
			wire: text(text(text(nil, 8, entry("io.kubernetes.pod.name", "a")), 8, entry("app", "no")), 8, entry("io.kubernetes.pod.name", "b")),
			want: `{"labels":{"io.kubernetes.pod.name":"b"}}`},
		"map: no listed key":      {message: "runtime.v1.Container", wire: text(nil, 8, entry("app", "no")), want: `{}`},
		"map: key without value":  {message: "runtime.v1.Container", wire: text(nil, 8, string(text(nil, 1, "io.kubernetes.pod.uid"))), want: `{"labels":{"io.kubernetes.pod.uid":""}}`},
		"map: value not reached":  {message: "runtime.v1.Container", wire: text(nil, 8, entry("io.kubernetes.pod.uid", "u"))[:25], prefix: true, want: `{}`, trimmed: true},
		"map: value cut":          {message: "runtime.v1.Container", wire: text(nil, 8, entry("io.kubernetes.pod.uid", "u-1"))[:28], prefix: true, want: `{"labels":{"io.kubernetes.pod.uid":"u…"}}`, trimmed: true},
		"map: a key that goes on": {message: "runtime.v1.Container", wire: text(nil, 8, entry("io.kubernetes.pod.uid.x", "no"))[:25], prefix: true, want: `{}`, trimmed: true},
		"doubles":                 {message: "runtime.v1.PsiData", wire: double(double(double(nil, 2, math.NaN()), 3, math.Inf(-1)), 4, 1e21), want: `{"Avg10":"NaN","Avg60":"-Infinity","Avg300":1e+21}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.budget == 0 {
				test.budget = 2048
			}
			out, trimmed := Render(descriptor(test.message), test.wire, !test.prefix, test.budget)
			if string(out) != test.want || trimmed != test.trimmed {
				t.Errorf("got  %s, trimmed %v\nwant %s, trimmed %v", out, trimmed, test.want, test.trimmed)
			}
		})
	}
}

func entry(key, value string) string {
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), key)
	return string(protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), value))
}

func double(b []byte, n protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, n, protowire.Fixed64Type), math.Float64bits(v))
}

// TestRenderBytes: no API's table lists a field of bytes today, but one may.
func TestRenderBytes(t *testing.T) {
	d := descriptor("runtime.v1.ExecSyncRequest").ParentFile()
	r := compile([]protoreflect.FileDescriptor{d}, []table{{"runtime.v1.ExecSyncResponse": {"stdout", "exit_code"}}}, nil)
	m := &cri.ExecSyncResponse{Stdout: []byte("hello, world, this is long"), ExitCode: 3}
	plan := r.messages[m.ProtoReflect().Descriptor()]
	for budget, want := range map[int]string{
		1000: `{"stdout":"aGVsbG8sIHdvcmxkLCB0aGlzIGlzIGxvbmc=","exit_code":3}`,
		100:  `{"stdout":"aGVsbG8sIHdvcmxkLCB0aGlz…","exit_code":3}`,
		18:   `{}`,
	} {
		if out, trimmed := plan.render(marshal(t, m), true, budget); string(out) != want || trimmed == (budget == 1000) {
			t.Errorf("budget %d: %s, trimmed %v", budget, out, trimmed)
		}
	}
}

// TestRenderAnyKey: of a map that shows any key, the first ones show, and the
// last value of each.
func TestRenderAnyKey(t *testing.T) {
	var wire []byte
	for i := range 3 * maxKeys {
		key := string(rune('a'+i%(maxKeys+1))) + "/zone"
		wire = protowire.AppendString(protowire.AppendTag(wire, 1, protowire.BytesType), entry(key, strings.Repeat("z", i/(maxKeys+1)+1)))
	}
	out, trimmed := Render(descriptor("csi.v1.Topology"), wire, true, 2048)
	segments := parsed(t, out)["segments"].(map[string]any)
	if len(segments) != maxKeys || !trimmed || segments["a/zone"] != "zzz" {
		t.Errorf("trimmed %v: %s", trimmed, out)
	}
}

// TestRenderUnknownDescriptor: a message shows by its descriptor, not by its name.
func TestRenderUnknownDescriptor(t *testing.T) {
	wire := marshal(t, &cri.StopContainerRequest{ContainerId: "c1"})
	for _, d := range []protoreflect.MessageDescriptor{nil, descriptor("runtime.v1.KeyValue")} {
		if out, trimmed := Render(d, wire, true, 100); string(out) != "{}" || trimmed {
			t.Errorf("%v: %s, trimmed %v", d, out, trimmed)
		}
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
		out, complete, ok := appendString([]byte("<"), s, limit, cut)
		if !ok {
			if string(out) != "<" || limit >= 5 {
				t.Fatalf("%q in %d: %q", s, limit, out)
			}
			continue
		}
		var got string
		if err := json.Unmarshal(out[1:], &got); err != nil || len(out)-1 > limit || !utf8.Valid(out) {
			t.Fatalf("%q in %d: %q: %v", s, limit, out, err)
		}
		meant := strings.Join(strings.Split(string([]rune(string(s))), ""), "")
		switch beginning, elided := strings.CutSuffix(got, "…"); {
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
	messages := []protoreflect.MessageDescriptor{
		descriptor("runtime.v1.RunPodSandboxRequest"), descriptor("runtime.v1.ContainerStatusResponse"),
		descriptor("csi.v1.NodePublishVolumeRequest"), descriptor("csi.v1.Topology"), descriptor("csi.v1.NodeGetInfoResponse"),
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
		for _, message := range messages {
			for _, whole := range []bool{true, false} {
				out, _ := Render(message, wire, whole, 2048)
				if parsed(t, out); len(out) > 2048 {
					t.Errorf("%s of %s: %d bytes", name, message.FullName(), len(out))
				}
			}
		}
		// A hundred times what it takes: the test is of the order of growth.
		if took := time.Since(start) / time.Duration(2*len(messages)); took > time.Second {
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
	for i, d := range all {
		wire := marshal(f, filled(d))
		f.Add(wire, uint16(i), uint16(2048), true)
		f.Add(wire[:len(wire)*2/3], uint16(i), uint16(100), false)
	}
	f.Fuzz(func(t *testing.T, wire []byte, index, budget uint16, whole bool) {
		d := all[int(index)%len(all)]
		out, trimmed := Render(d, wire, whole, int(budget))
		switch {
		case budget < MinBudget:
			if out != nil {
				t.Fatalf("budget %d: %q", budget, out)
			}
		case !json.Valid(out) || bytes.ContainsFunc(out, control) || !utf8.Valid(out) || len(out) > int(budget) || !whole && !trimmed:
			t.Fatalf("budget %d, trimmed %v: %q", budget, trimmed, out)
		}
		checkOracle(t, d, wire)
		m := &Method{}
		for known := range Methods() {
			if known.Request == d || known.Response == d {
				m = known
			}
		}
		m.Facts(wire, wire)
	})
}

func checkOracle(t *testing.T, d protoreflect.MessageDescriptor, wire []byte) {
	m := dynamicpb.NewMessage(d)
	if proto.Unmarshal(wire, m) != nil {
		return
	}
	out, trimmed := Render(d, wire, true, 1<<24)
	if trimmed {
		return // more keys than show
	}
	got, want := withoutZeros(d, parsed(t, out)), withoutZeros(d, oracle(m))
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s %x:\n got %v\nwant %v", d.FullName(), wire, got, want)
	}
}
