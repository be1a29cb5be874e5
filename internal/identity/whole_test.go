package identity

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
)

// TestWhole: whatever was put, forgotten and dropped, the beginning of an id is that id if
// one alone begins with it.
func TestWhole(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	id := func() string { // of few, which begin alike
		begin := fmt.Sprintf("%0*b", 8+rnd.IntN(3), rnd.IntN(1<<6))
		return begin + strings.Repeat("f", []int{idLetters, idLetters, 20}[rnd.IntN(3)]-len(begin))
	}
	r := newRecent[int](40)
	alone, several := 0, 0
	for range 50_000 {
		switch key := id(); rnd.IntN(4) {
		case 0:
			r.put(key, 1)
		case 1:
			r.drop(key)
		case 2:
			r.retire(key)
		default:
			part := key[:rnd.IntN(len(key)+1)]
			var all []string
			for k := range r.entries {
				if strings.HasPrefix(k, part) {
					all = append(all, k)
				}
			}
			want := part
			switch _, known := r.entries[part]; {
			case len(part) < enoughOfThem, known:
			case len(all) > 1:
				several++
			case len(all) == 1 && len(all[0]) == idLetters:
				want = all[0]
				alone++
			}
			if got := r.whole(part); got != want {
				t.Fatalf("%s is %s, want %s, of %v", part, got, want, all)
			}
		}
	}
	if alone < 100 || several < 100 || len(r.sorted) != len(r.entries) {
		t.Errorf("%d of one id, %d of several were tried; %d keys, %d entries", alone, several, len(r.sorted), len(r.entries))
	}
}

// A person gives crictl a part of an id, and crictl that to the runtime. The call has its
// pod all the same, also where that is known only after.
func TestPartOfAnID(t *testing.T) {
	m := New()
	whole := func(begin string) string { return begin + strings.Repeat("0", idLetters-len(begin)) }
	ask := func(method string, f schema.Facts) *call.Record {
		r := did(method)
		m.Complete(r, f)
		return r
	}
	early := ask("ExecSync", schema.Facts{ContainerID: "c0ffee00c0ffe"})
	if early.Container.ID != "c0ffee00c0ffe" || early.Pod != (call.Pod{}) {
		t.Errorf("nobody knows %+v", early)
	}
	made := ask("RunPodSandbox", podFacts(web, schema.Facts{SandboxID: whole("5a4db0c5")}))
	ask("CreateContainer", schema.Facts{SandboxID: "5a4db0c5", ContainerID: whole("c0ffee00c0ffee"), ContainerName: "app"})
	m.Fill(early)
	late := ask("StopContainer", schema.Facts{ContainerID: "c0ffee00"})
	for _, r := range []*call.Record{early, late, ask("StopPodSandbox", schema.Facts{SandboxID: "5a4db0c50"})} {
		if r.Pod != web || r.SandboxID != made.SandboxID || r.Method != "StopPodSandbox" && (r.Container.ID != whole("c0ffee00c0ffee") || r.Container.Name != "app") {
			t.Errorf("%s: %+v", r.Method, r)
		}
	}
	if r := ask("StopContainer", schema.Facts{ContainerID: "c0ffee0"}); r.Pod != (call.Pod{}) {
		t.Errorf("so short a part may be of others: %+v", r)
	}
}
