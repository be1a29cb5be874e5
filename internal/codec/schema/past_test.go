package schema

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestALongListIsCounted: a list is shown as its first entries and its count,
// also where most of it came behind what is kept.
func TestALongListIsCounted(t *testing.T) {
	list := &criapi.ListContainersResponse{}
	for i := range 3000 {
		list.Containers = append(list.Containers, &criapi.Container{Id: fmt.Sprint("c", i), Metadata: &criapi.ContainerMetadata{Name: "web"}})
	}
	wire := marshal(t, list)
	m := lookup(runtimeService, "ListContainers").Response
	from := Prefix{Bytes: wire[:10000], Past: Follow(wire[:10000])}
	from.Past.Write(wire[10000:])
	out, trimmed := (&Renderer{Policy: Policy{}}).Render(m, from, 300)
	entries := parsed(t, out)["containers"].([]any)
	last := entries[len(entries)-1]
	want := map[string]any{"…": fmt.Sprintf("‹%d more›", 3000-(len(entries)-1))}
	if !reflect.DeepEqual(last, want) || !trimmed || len(entries) < 3 {
		t.Errorf("%s", out)
	}
	for _, e := range entries[:len(entries)-1] {
		if id := e.(map[string]any)["id"].(string); !strings.HasPrefix(id, "c") {
			t.Errorf("cut within an entry: %v", e)
		}
	}
	// Nobody followed it: there are more, and how many is not known.
	out, _ = (&Renderer{Policy: Policy{}}).Render(m, Prefix{Bytes: wire[:10000]}, 300)
	if !strings.Contains(string(out), "+ more›") {
		t.Errorf("%s", out)
	}
}

// FuzzFollow: what is counted of a prefix and behind it is what is counted of the
// whole, wherever the prefix ends and however the rest is cut.
func FuzzFollow(f *testing.F) {
	exec := marshal(f, &criapi.ExecSyncResponse{Stdout: make([]byte, 300), Stderr: []byte("x"), ExitCode: 3})
	f.Add(exec, uint16(100), uint8(7))
	f.Add(exec, uint16(1), uint8(1))
	f.Add([]byte("\x0a\x01a\x0a\x01b\x15abcd\x19abcdefgh\x20\xff\xff\x01"), uint16(5), uint8(2))
	f.Add([]byte("\x0b\x0c\x0a\x00"), uint16(1), uint8(1))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), uint16(1), uint8(3))
	f.Fuzz(func(t *testing.T, wire []byte, at uint16, step uint8) {
		count := func(m *Message, from Prefix) (found [4]extent, strange *strangers) {
			c := cursor{b: from.Bytes, whole: from.Whole}
			if strange = m.find(&c, found[:len(m.fields)]); from.Past != nil {
				strange = from.Past.add(m, found[:len(m.fields)], strange)
			}
			return found, strange.add(1, protowire.BytesType, 0, 0)
		}
		m := lookup(runtimeService, "ExecSync").Response
		n := min(int(at), len(wire))
		p := Follow(wire[:n])
		for rest := wire[n:]; len(rest) > 0; {
			k := min(len(rest), int(step)+1)
			p.Write(rest[:k])
			rest = rest[k:]
		}
		whole := cursor{b: wire, whole: true}
		groups := false
		for whole.next() {
			groups = groups || whole.wire == protowire.StartGroupType
		}
		if whole.broken || groups {
			return // then nothing is claimed but that it ends
		}
		if !p.counted() {
			if p.n < maxPast {
				t.Fatalf("not counted: %+v", p)
			}
			return
		}
		got, gotStrange := count(m, Prefix{Bytes: wire[:n], Past: p})
		want, wantStrange := count(m, Prefix{Bytes: wire, Whole: true})
		for i := range got {
			if got[i].count != want[i].count || got[i].size != want[i].size {
				t.Fatalf("field %d: %+v, want %+v", i, got[i], want[i])
			}
		}
		if gotStrange.n != wantStrange.n && !wantStrange.more && !gotStrange.more {
			t.Fatalf("%d strangers, want %d", gotStrange.n, wantStrange.n)
		}
	})
}
