package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// What becomes of calls when a process of ours dies or hangs.

// load is clients that call without a pause, until it is stopped.
type load struct {
	done   atomic.Int64 // calls
	t      testing.TB
	stop   context.CancelFunc
	ctx    context.Context
	active sync.WaitGroup
	mu     sync.Mutex
	failed []failure
}

// failure is a call that did not succeed.
type failure struct {
	began time.Time
	err   error
}

func newLoad(t testing.TB) *load {
	l := &load{t: t}
	l.ctx, l.stop = context.WithCancel(context.Background())
	t.Cleanup(l.stop)
	return l
}

// add starts a client. A call that has begun is never cut off.
func (l *load) add(call func(ctx context.Context) error) {
	l.active.Go(func() {
		for l.ctx.Err() == nil {
			began := time.Now()
			if err := call(context.WithoutCancel(l.ctx)); err != nil {
				l.mu.Lock()
				l.failed = append(l.failed, failure{began, err})
				l.mu.Unlock()
			}
			l.done.Add(1)
		}
	})
}

// more waits for so many more calls.
func (l *load) more(n int64) {
	l.t.Helper()
	until := l.done.Load() + n
	eventually(l.t, fmt.Sprintf("%d more calls", n), func() bool { return l.done.Load() >= until })
}

// end stops the clients and holds that none of their calls failed.
func (l *load) end() {
	l.t.Helper()
	l.stop()
	l.active.Wait()
	l.fine()
}

// fine holds that no call has failed.
func (l *load) fine() {
	l.t.Helper()
	if failed := l.failures(); len(failed) > 0 {
		l.t.Errorf("%d of %d calls failed, the first: %v", len(failed), l.done.Load(), failed[0].err)
	}
}

// failures are those so far that were not taken yet.
func (l *load) failures() (f []failure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, l.failed = l.failed, nil
	return f
}

// held is a call that the server answers when it is told to.
type held struct {
	release func()
	ended   chan error
}

// hold makes a StartContainer call and returns when the server has it.
func hold(n *fakeNode, k *fakecri.Kubelet) *held {
	n.t.Helper()
	arrived, released := make(chan struct{}), make(chan struct{})
	h := &held{release: sync.OnceFunc(func() { close(released) }), ended: make(chan error, 1)}
	n.t.Cleanup(h.release) // or the server would wait for it
	n.On(cri.RuntimeService_StartContainer_FullMethodName, fakecri.Reply(func(any) (any, error) {
		close(arrived)
		<-released
		return &cri.StartContainerResponse{}, nil
	}).Times(1))
	go func() {
		_, err := k.Runtime.StartContainer(context.Background(), &cri.StartContainerRequest{ContainerId: "c"})
		h.ended <- err
	}()
	select {
	case <-arrived:
	case err := <-h.ended:
		n.t.Fatalf("the call that was to be held ended: %v", err)
	}
	return h
}

// finish has the server answer.
func (h *held) finish() error {
	h.release()
	return <-h.ended
}

// TestFakesTapKilled kills the process that decodes, while many calls run: none
// of them fails, the path goes, and the relay ends with its last client.
func TestFakesTapKilled(t *testing.T) {
	n := newFakeNode(t)
	n.AddPods(110)
	tap := front(t, n.cri)
	if !tap.Tells {
		return // socat is one process
	}
	l := newLoad(t)
	var kubelets []*fakecri.Kubelet
	for range 4 {
		k := n.kubelet(tap.Listen, n.csi)
		kubelets = append(kubelets, k)
		l.add(k.Poll)
		l.add(func(ctx context.Context) error {
			_, err := fakecri.Chat(ctx, k.Conn(), [][]byte{make([]byte, 100_000), []byte("b")})
			return err
		})
	}
	h := hold(n, kubelets[0])
	l.more(100)
	tap.Killed()
	eventually(t, tap.Listen+" is taken away", func() bool { return absent(tap.Listen) })
	l.more(100)
	if err := h.finish(); err != nil {
		t.Errorf("the call that was open when grpc-tap was killed: %v", err)
	}
	l.end()
	if !tap.relays() {
		t.Error("the relay went before its clients")
	}
	for _, k := range kubelets {
		k.Close()
	}
	tap.relayEnds()
}

// TestFakesTapStopped stops the process that decodes, as a debugger or a busy
// node would, under more than the relay and the kernel hold: no call fails, a
// connection that grows blind is said once, its client dials anew and is seen
// again, and so are those that come later.
func TestFakesTapStopped(t *testing.T) {
	n := newFakeNode(t)
	n.AddPods(1)
	n.On(cri.RuntimeService_ListContainers_FullMethodName, fakecri.Grow(8<<20))
	tap := front(t, n.cri)
	if !tap.Tells {
		return
	}
	big := n.kubelet(tap.Listen, n.csi)
	if _, err := big.Runtime.Version(t.Context(), &cri.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	seen := tap.Wait("Version", isMethod("Version"))

	if err := unix.Kill(tap.PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := func() { unix.Kill(tap.PID(), unix.SIGCONT) }
	defer goOn()
	l := newLoad(t)
	small := n.kubelet(tap.Listen, n.csi)
	l.add(func(ctx context.Context) error {
		_, err := small.Image.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{})
		return err
	})
	for range 5 {
		if _, err := big.Runtime.ListContainers(t.Context(), &cri.ListContainersRequest{}); err != nil {
			t.Errorf("with grpc-tap stopped: %v", err)
		}
	}
	l.more(10)
	l.end()

	goOn()
	eventually(t, "the blind connection is said", func() bool { return len(blindOnes(tap)) > 0 })
	eventually(t, "the client of the blind connection has dialled anew, and is seen", func() bool {
		if _, err := big.Runtime.RuntimeConfig(t.Context(), &cri.RuntimeConfigRequest{}); err != nil {
			t.Fatalf("on the blind connection: %v", err)
		}
		return slices.ContainsFunc(tap.Records(), isMethod("RuntimeConfig"))
	})
	later := n.kubelet(tap.Listen, n.csi)
	if _, err := later.Runtime.Status(t.Context(), &cri.StatusRequest{}); err != nil {
		t.Error(err)
	}
	if r := tap.Wait("a call on a later connection", isMethod("Status")); r.Code != "OK" || r.State != "done" {
		t.Errorf("not told as it was: %s", r)
	}
	if i := slices.IndexFunc(tap.Records(), func(r Record) bool { return r.Method == "RuntimeConfig" && r.Connection == seen.Connection }); i >= 0 {
		t.Error("a call on a blind connection is told")
	}
	for _, k := range []*fakecri.Kubelet{big, small, later} {
		k.Close()
	}
	tap.Stop()
	blind := blindOnes(tap)
	if !slices.Contains(blind, fmt.Sprint(seen.Connection)) {
		t.Errorf("connection %d is blind and is not said to be; those said: %q", seen.Connection, blind)
	}
	if once := slices.Compact(slices.Sorted(slices.Values(blind))); len(once) != len(blind) {
		t.Errorf("said of connections %q: more than once", blind)
	}
	if want := fmt.Sprintf(", %d blind, ", len(blind)); !strings.Contains(tap.Said(), want) || !strings.Contains(tap.Said(), " bytes not decoded") {
		t.Errorf("the goodbye does not count %q:\n%s", want, tap.Said())
	}
}

var blindLine = regexp.MustCompile(`is blind from here on.* connection=(\d+) `)

// blindOnes are the connections that were said to be blind.
func blindOnes(tap *fronted) (connections []string) {
	for _, m := range blindLine.FindAllStringSubmatch(tap.Said(), -1) {
		connections = append(connections, m[1])
	}
	return connections
}

// TestFakesRelayKilled kills the process that carries the bytes: grpc-tap says
// so, with what to do, and ends as failed. What it says to do helps.
func TestFakesRelayKilled(t *testing.T) {
	n := newFakeNode(t)
	tap := front(t, n.cri)
	if !tap.Tells {
		return
	}
	k := n.kubelet(tap.Listen, n.csi)
	h := hold(n, k)
	if err := unix.Kill(tap.relay, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := tap.exitCode(); code != 1 {
		t.Errorf("exit code %d, not 1", code)
	}
	if want := fmt.Sprintf("the relay (pid %d) died: signal: killed; its path is dead until grpc-tap is started again", tap.relay); strings.Count(tap.Said(), want) != 1 {
		t.Errorf("does not say once %q:\n%s", want, tap.Said())
	}
	if err := h.finish(); status.Code(err) != codes.Unavailable {
		t.Errorf("the call that was cut off: %v", err)
	}
	for _, r := range tap.Records() {
		if r.Code != "" || r.State != "lost" {
			t.Errorf("an end was invented for a call that was cut off: %s", r)
		}
	}
	again := &fronted{Tap: &Tap{Listen: tap.Listen, Tells: true, t: t, lab: tap.lab}}
	again.Process = tap.lab.Start("grpc-tap-again", nil, binary, "proxy", "--listen", tap.Listen, "--upstream", n.cri, "-o", "json")
	again.Accepts(tap.Listen, eventuallyTime)
	again.relay = relayOf(again.Tap)
	late := n.kubelet(tap.Listen, n.csi)
	if _, err := late.Runtime.Version(t.Context(), &cri.VersionRequest{}); err != nil {
		t.Errorf("started again on the same path: %v", err)
	}
	late.Close()
	k.Close() // or it dials anew
	again.Stop()
	again.relayEnds()
}
