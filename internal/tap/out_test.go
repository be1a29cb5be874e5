package tap

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
	"github.com/grpc-tap/grpc-tap/internal/identity"
)

// node is an Out whose records are noted as they come, and how they were placed.
type node struct {
	t      *testing.T
	out    *Out
	begin  time.Time
	mu     sync.Mutex
	said   []string // "METHOD of NAMESPACE/NAME, uid UID, after TIME"
	placed []string // "METHOD UID" in the order of Place, and "ran NAME SANDBOX CONTAINER"
	asked  int
}

func newNode(t *testing.T) *node {
	n := &node{t: t, begin: time.Now()}
	queue := NewQueue("noted", n, QueueSize)
	n.out = NewOut(identity.New(), n, queue)
	n.out.Stranger = func(*call.Record) { n.asked++ }
	t.Cleanup(func() { n.out.Close(); queue.Close(context.Background()) })
	return n
}

func (n *node) Records(all []*call.Record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range all {
		// The queue before us has its own patience.
		after := (time.Since(n.begin) - linger).Round(time.Millisecond)
		n.said = append(n.said, fmt.Sprintf("%s of %s/%s, uid %s, after %v", r.Method, r.Pod.Namespace, r.Pod.Name, r.Pod.UID, after))
	}
}

func (n *node) Follows(string, string) bool { return true }
func (n *node) Begin(*call.Record)          {}
func (n *node) Place(r *call.Record)        { n.note(r.Method + " " + r.Pod.UID) }
func (n *node) Ran(pod call.Pod, sandbox, container string, now bool) {
	n.note(fmt.Sprintf("ran %s %s %s %v", pod.Name, sandbox, container, now))
}

func (n *node) Named(pod call.Pod) { n.note("named " + pod.Name + " " + pod.UID) }

func (n *node) note(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.placed = append(n.placed, s)
}

func rpc(method string, state call.State, code string) *call.Record {
	r := &call.Record{Start: time.Now(), State: state, Service: "runtime.v1.RuntimeService", Method: method, Code: code, Socket: "/run/cri.sock"}
	if strings.HasPrefix(method, "Node") {
		r.Service, r.Socket = "csi.v1.Node", "/plugins/nfs/csi.sock"
	}
	return r
}

const target = "/var/lib/kubelet/pods/u1/volumes/kubernetes.io~csi/pv-1/mount"

var (
	published = schema.Facts{VolumeID: "v1", VolumePath: target}
	webStarts = schema.Facts{PodNamespace: "shop", PodName: "web", PodUID: "u1"}
)

// want is what the sinks and the phases were told by now.
func (n *node) want(said, placed []string) {
	n.t.Helper()
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.said, said) || !slices.Equal(n.placed, placed) {
		n.t.Errorf("told\n%s\nwant\n%s\nplaced %q\nwant   %q", strings.Join(n.said, "\n"), strings.Join(said, "\n"), n.placed, placed)
	}
}

// A volume is published before anybody says its pod's name: the record waits for
// the sandbox to be asked for.
func TestARecordWaitsForItsPodsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.out.ended(rpc("NodePublishVolume", call.Done, "OK"), published)
		n.out.ended(rpc("Version", call.Done, "OK"), schema.Facts{})
		time.Sleep(310 * time.Millisecond)
		n.out.began(rpc("RunPodSandbox", call.Running, ""), webStarts)
		time.Sleep(time.Second)
		n.want([]string{"Version of /, uid , after 0s", "NodePublishVolume of shop/web, uid u1, after 350ms"}, []string{"NodePublishVolume u1", "Version "})
		if n.asked != 1 {
			t.Errorf("asked %d times", n.asked)
		}
	})
}

// The name may never come: the record waits no longer than it may.
func TestARecordDoesNotWaitForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.out.ended(rpc("NodePublishVolume", call.Done, "OK"), published)
		n.out.ended(rpc("NodeStageVolume", call.Done, "INTERNAL"), schema.Facts{VolumeID: "v2"})
		n.out.ended(rpc("StopContainer", call.Lost, ""), schema.Facts{ContainerID: "c1"})
		time.Sleep(time.Second)
		n.want([]string{"NodeStageVolume of /, uid , after 0s", "NodePublishVolume of /, uid u1, after 700ms", "StopContainer of /, uid , after 700ms"},
			[]string{"NodePublishVolume u1", "NodeStageVolume ", "StopContainer "})
	})
}

// Whose volume is staged is known once it is published.
func TestAStageWaitsForItsPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		stage := rpc("NodeStageVolume", call.Done, "OK")
		time.Sleep(10 * time.Millisecond)
		n.out.ended(stage, schema.Facts{VolumeID: "v1", StagingPath: "/s/globalmount"})
		time.Sleep(10 * time.Millisecond)
		n.out.began(rpc("NodePublishVolume", call.Running, ""), published)
		time.Sleep(400 * time.Millisecond)
		n.out.began(rpc("RunPodSandbox", call.Running, ""), webStarts)
		time.Sleep(time.Second)
		n.want([]string{"NodeStageVolume of shop/web, uid u1, after 460ms"}, []string{"NodeStageVolume u1"})
	})
}

// A list names what was there before, and what ran.
func TestAListNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.out.ended(rpc("ExecSync", call.Done, "OK"), schema.Facts{ContainerID: "c1"})
		time.Sleep(110 * time.Millisecond)
		wire, err := proto.Marshal(&criapi.ListContainersResponse{Containers: []*criapi.Container{
			{Id: "c1", PodSandboxId: "s1", State: criapi.ContainerState_CONTAINER_RUNNING, Metadata: &criapi.ContainerMetadata{Name: "app"},
				Labels: map[string]string{"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "web", "io.kubernetes.pod.uid": "u1"}},
			{Id: "c2", PodSandboxId: "s1", State: criapi.ContainerState_CONTAINER_EXITED, Metadata: &criapi.ContainerMetadata{Name: "init"}},
		}})
		must(t, err)
		list := (*schema.APIs)(nil).Lookup("runtime.v1.RuntimeService", "ListContainers")
		for range 3 { // the kubelet lists every second; it is news once
			list.Listing(func(e *schema.Listed) { n.out.Listed(e, schema.Facts{}) }).Write(wire)
		}
		time.Sleep(time.Second)
		n.want([]string{"ExecSync of shop/web, uid u1, after 150ms"}, []string{"named web u1", "ran web s1 app true", "named  ", "ExecSync u1"})
	})
}

// That a container ran before anybody looked is told also where a status or its
// statistics have named it first.
func TestAListTellsWhatRan(t *testing.T) {
	labels := map[string]string{"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "web", "io.kubernetes.pod.uid": "u1"}
	heed := func(n *node, method string, m proto.Message) {
		wire, err := proto.Marshal(m)
		must(n.t, err)
		list := (*schema.APIs)(nil).Lookup("runtime.v1.RuntimeService", method)
		list.Listing(func(e *schema.Listed) { n.out.Listed(e, schema.Facts{}) }).Write(wire)
	}
	for name, first := range map[string]func(*node){
		"status": func(n *node) {
			n.out.ended(rpc("ContainerStatus", call.Done, "OK"), schema.Facts{PodNamespace: "shop", PodName: "web", PodUID: "u1", ContainerID: "c1", ContainerName: "app"})
		},
		"statistics": func(n *node) {
			heed(n, "ListContainerStats", &criapi.ListContainerStatsResponse{Stats: []*criapi.ContainerStats{{Attributes: &criapi.ContainerAttributes{
				Id: "c1", Labels: labels, Metadata: &criapi.ContainerMetadata{Name: "app"}}}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				first(n)
				n.mu.Lock()
				n.placed = nil
				n.mu.Unlock()
				for range 3 {
					heed(n, "ListContainers", &criapi.ListContainersResponse{Containers: []*criapi.Container{
						{Id: "c1", PodSandboxId: "s1", State: criapi.ContainerState_CONTAINER_RUNNING, Metadata: &criapi.ContainerMetadata{Name: "app"}, Labels: labels}}})
				}
				synctest.Wait()
				n.mu.Lock()
				defer n.mu.Unlock()
				if want := []string{"named web u1", "ran web s1 app true"}; !slices.Equal(n.placed, want) {
					t.Errorf("placed %q, want %q", n.placed, want)
				}
			})
		})
	}
}

// What is held is bounded, and the end lets go of it.
func TestHoldingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		for range maxHeld + 1 {
			n.out.ended(rpc("StopContainer", call.Done, "OK"), schema.Facts{ContainerID: "c1"})
		}
		time.Sleep(linger)
		n.want([]string{"StopContainer of /, uid , after 0s"}, []string{"StopContainer "})
		n.out.Close()
		n.out.ended(rpc("StopContainer", call.Done, "OK"), schema.Facts{ContainerID: "c1"})
		time.Sleep(linger)
		synctest.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.said) != maxHeld+2 {
			t.Errorf("%d records after the end, want %d", len(n.said), maxHeld+2)
		}
	})
}
