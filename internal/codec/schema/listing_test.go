package schema

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func podLabelsOf(i int) map[string]string {
	return map[string]string{
		"io.kubernetes.pod.namespace": "ns", "io.kubernetes.pod.name": fmt.Sprint("web-", i), "io.kubernetes.pod.uid": fmt.Sprint("u", i),
		"io.kubernetes.container.name": "app", "app": strings.Repeat("x", i%300),
	}
}

// heed reads messages cut by cut, and says what was listed.
func heed(m *Method, cut func(int) int, messages ...[]byte) (told []string) {
	l := m.Listing(func(e *Listed) {
		id, container := e.ID()
		told = append(told, fmt.Sprintf("%s %v %+v ran %v", id, container, e.Facts(), e.Ran()))
	})
	for _, wire := range messages {
		for len(wire) > 0 {
			n := min(max(cut(len(wire)), 1), len(wire))
			lent := slices.Clone(wire[:n])
			l.Write(lent)
			clear(lent)
			wire = wire[n:]
		}
		l.EndMessage()
	}
	return told
}

func asTold(id string, container bool, f Facts, ran bool) string {
	return fmt.Sprintf("%s %v %+v ran %v", id, container, f, ran)
}

// TestListings: every entry of a list is told with its facts, in any chunking and
// however long the list is.
func TestListings(t *testing.T) {
	sandboxes, containers, events := &criapi.ListPodSandboxResponse{}, &criapi.ListContainersResponse{}, &criapi.ContainerEventResponse{ContainerId: "c1"}
	var wantSandboxes, wantContainers []string
	for i := range 500 {
		uid, name := fmt.Sprint("u", i), fmt.Sprint("web-", i)
		metadata := &criapi.PodSandboxMetadata{Namespace: "ns", Name: name, Uid: uid}
		sandboxes.Items = append(sandboxes.Items, &criapi.PodSandbox{Id: fmt.Sprint("s", i), Metadata: metadata, Labels: podLabelsOf(i),
			Annotations: map[string]string{"long": strings.Repeat("y", i*50)}})
		f := Facts{PodNamespace: "ns", PodName: name, PodUID: uid, SandboxID: fmt.Sprint("s", i)}
		wantSandboxes = append(wantSandboxes, asTold(f.SandboxID, false, f, false))

		state, attempt := criapi.ContainerState(i%3), uint32(i%2)
		containers.Containers = append(containers.Containers, &criapi.Container{Id: fmt.Sprint("c", i), PodSandboxId: fmt.Sprint("s", i), State: state,
			Metadata: &criapi.ContainerMetadata{Name: "app", Attempt: attempt}, Image: &criapi.ImageSpec{Image: "sha256:1", UserSpecifiedImage: "nginx:1"},
			Labels: podLabelsOf(i), Annotations: map[string]string{"long": strings.Repeat("y", i*50)}})
		f.ContainerID, f.ContainerName, f.Image = fmt.Sprint("c", i), "app", "nginx:1"
		wantContainers = append(wantContainers, asTold(f.ContainerID, true, f, state == criapi.ContainerState_CONTAINER_RUNNING || attempt > 0))
	}
	events.PodSandboxStatus = &criapi.PodSandboxStatus{Id: "s1", Metadata: &criapi.PodSandboxMetadata{Namespace: "ns", Name: "web", Uid: "u1"}}
	events.ContainersStatuses = []*criapi.ContainerStatus{{Id: "c1", Metadata: &criapi.ContainerMetadata{Name: "app"}, Labels: podLabelsOf(1)}}
	wantEvents := []string{
		asTold("s1", false, Facts{PodNamespace: "ns", PodName: "web", PodUID: "u1", SandboxID: "s1"}, false),
		asTold("c1", true, Facts{PodNamespace: "ns", PodName: "web-1", PodUID: "u1", ContainerID: "c1", ContainerName: "app"}, false),
	}
	for _, test := range []struct {
		method   string
		messages []proto.Message
		want     []string
	}{
		{"ListPodSandbox", []proto.Message{sandboxes}, wantSandboxes},
		{"ListContainers", []proto.Message{containers}, wantContainers},
		{"GetContainerEvents", []proto.Message{events, &criapi.ContainerEventResponse{}, events}, append(wantEvents, wantEvents...)},
		{"ListContainerStats", []proto.Message{&criapi.ListContainerStatsResponse{Stats: []*criapi.ContainerStats{{Attributes: &criapi.ContainerAttributes{
			Id: "c1", Metadata: &criapi.ContainerMetadata{Name: "app"}, Labels: podLabelsOf(1)}}}}},
			[]string{asTold("c1", true, Facts{PodNamespace: "ns", PodName: "web-1", PodUID: "u1", ContainerID: "c1", ContainerName: "app"}, false)}},
		{"ListPodSandboxStats", []proto.Message{&criapi.ListPodSandboxStatsResponse{Stats: []*criapi.PodSandboxStats{{Attributes: &criapi.PodSandboxAttributes{
			Id: "s1", Metadata: &criapi.PodSandboxMetadata{Name: "web", Uid: "u1"}}}}}},
			[]string{asTold("s1", false, Facts{PodName: "web", PodUID: "u1", SandboxID: "s1"}, false)}},
		{"RestorePod", []proto.Message{&criapi.RestorePodResponse{PodSandboxId: "s1", RestoredContainers: []*criapi.RestoredContainer{{Name: "app", ContainerId: "c1"}}}},
			[]string{asTold("c1", true, Facts{ContainerID: "c1", ContainerName: "app"}, false)}},
	} {
		m := lookup(runtimeService, test.method)
		var wires [][]byte
		for _, message := range test.messages {
			wires = append(wires, marshal(t, message))
		}
		for name, cut := range map[string]func(int) int{
			"whole": func(n int) int { return n }, "bytes": func(int) int { return 1 }, "random": func(n int) int { return 1 + rand.IntN(n) },
		} {
			if got := heed(m, cut, wires...); !slices.Equal(got, test.want) {
				t.Errorf("%s, %s: %d entries, want %d:\n%.2000s", test.method, name, len(got), len(test.want), strings.Join(got, "\n"))
			}
		}
	}
	if lookup(runtimeService, "Version").Lists() || lookup("a", "B").Lists() {
		t.Error("it lists nothing")
	}
}

// TestAListHoldsOneEntry: what is held of a list is bounded, whatever comes.
func TestAListHoldsOneEntry(t *testing.T) {
	long := marshal(t, &criapi.ListContainersResponse{Containers: []*criapi.Container{{Id: "c1", Annotations: map[string]string{"a": strings.Repeat("y", 4<<20)}}}})
	var l *Listing
	l = lookup(runtimeService, "ListContainers").Listing(func(e *Listed) {
		if id, _ := e.ID(); string(id) != "c1" || cap(l.buf) > 4*maxEntry {
			t.Errorf("%s, and %d bytes held", id, cap(l.buf))
		}
	})
	for range 3 {
		l.Write(long)
		l.EndMessage()
	}
}

// FuzzListing: any bytes in any chunking give the same entries, and no more than
// a parser finds.
func FuzzListing(f *testing.F) {
	f.Add(marshal(f, &criapi.ListContainersResponse{Containers: []*criapi.Container{{Id: "c1", PodSandboxId: "s1", State: 1}, {Id: "c2"}}}), uint8(3))
	f.Add([]byte("\x0a\x03\x0a\x05abc\x0a\x00\x12\x02aa\x0b"), uint8(1))
	f.Fuzz(func(t *testing.T, wire []byte, step uint8) {
		m := lookup(runtimeService, "ListContainers")
		whole := heed(m, func(n int) int { return n }, wire)
		if cut := heed(m, func(int) int { return int(step) + 1 }, wire); !slices.Equal(whole, cut) {
			t.Fatalf("whole %q\ncut by %d %q", whole, int(step)+1, cut)
		}
		parsed := &criapi.ListContainersResponse{}
		if proto.Unmarshal(wire, parsed) == nil && !strings.Contains(string(wire), "\x0b") && len(whole) > len(parsed.Containers) {
			t.Fatalf("%d entries of %d", len(whole), len(parsed.Containers))
		}
	})
}
