package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// Live attach: clients that were connected before the path was taken. What the
// machine does meanwhile decides how many are moved; that no call of theirs fails,
// nothing may decide.

// fakecriBinary is the fakes as a program: live attach watches the server's
// process, which must not be the clients' too.
var fakecriBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(binary), "fakecri")
	out, err := exec.Command("go", "build", "-o", path, "../fakecri/cmd/fakecri").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build fakecri: %w\n%s", err, out)
	}
	return path, nil
})

// fakeProcess is a fake runtime with so many pods, in a process of its own.
func fakeProcess(t testing.TB, pods int) served {
	t.Helper()
	fakecri, err := fakecriBinary()
	if err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	path := l.Path("cri.sock")
	p := l.Start("fakecri", nil, fakecri, "serve", "--cri", path, "--pods", strconv.Itoa(pods))
	p.Accepts(path, eventuallyTime)
	return served{path: path, pid: p.PID(), events: containerEvents}
}

// onProcesses is onServers with the fakes in a process of their own.
func onProcesses(t *testing.T, test func(t *testing.T, s served)) {
	needRoot(t, "pidfd_getfd")
	t.Run("fakes", func(t *testing.T) { test(t, fakeProcess(t, 110)) })
	t.Run("containerd", func(t *testing.T) {
		r := lab.Containerd(t, lab.Options{})
		test(t, served{path: r.Socket, pid: r.PID(), events: containerdEvents})
	})
}

// older are clients with a connection each that is older than the takeover. They
// ask for containers that there are not, by names that tell them apart.
type older struct {
	*load
	names  []string
	conns  []*grpc.ClientConn
	asking []func(context.Context) error
}

// newOlder connects clients, and has each make one call.
func newOlder(t testing.TB, path string, names ...string) *older {
	t.Helper()
	o := &older{load: newLoad(t), names: names}
	for _, name := range names {
		conn, err := dial(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		rt := cri.NewRuntimeServiceClient(conn)
		ask := func(ctx context.Context) error {
			_, err := rt.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: name})
			if status.Code(err) != codes.NotFound {
				return fmt.Errorf("%s: %w", name, cmp.Or(err, fmt.Errorf("it was found")))
			}
			return nil
		}
		if err := ask(t.Context()); err != nil {
			t.Fatal(err)
		}
		o.conns, o.asking = append(o.conns, conn), append(o.asking, ask)
	}
	return o
}

// poll has the clients from one on call every so often.
func (o *older) poll(from, to int, every time.Duration) {
	for i := from; i < to; i++ {
		rt := cri.NewRuntimeServiceClient(o.conns[i])
		lists := every >= 100*time.Millisecond // as the kubelet does, several KB to hundreds of them
		o.add(func(ctx context.Context) error {
			select {
			case <-time.After(every):
			case <-o.ctx.Done():
			}
			if lists {
				if _, err := rt.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{}); err != nil {
					return err
				}
			}
			return o.asking[i](ctx)
		})
	}
}

// askAll has each client make a call.
func (o *older) askAll() {
	o.t.Helper()
	for _, ask := range o.asking {
		if err := ask(context.Background()); err != nil {
			o.t.Errorf("a call thereafter: %v", err)
		}
	}
}

func (o *older) hangUp() {
	for _, c := range o.conns {
		c.Close()
	}
}

var moved = regexp.MustCompile(`: (\d+) connections? moved, and seen`)

// decided waits until attach has said what became of the clients, and returns
// how many were moved.
func (a *attached) decided() (n int) {
	a.t.Helper()
	a.Until("it says what became of the clients", 2*time.Minute, func() bool {
		return strings.Contains(a.Said(), " moved, and ") || strings.Contains(a.Said(), " left to be moved")
	})
	if m := moved.FindStringSubmatch(a.Said()); m != nil {
		n, _ = strconv.Atoi(m[1])
	}
	return n
}

// tells waits until attach has told calls of so many of the clients.
func (a *attached) tells(o *older, n int) {
	a.t.Helper()
	a.Until(fmt.Sprintf("it tells the calls of %d clients", n), eventuallyTime, func() bool {
		told := map[string]bool{}
		for _, r := range a.Records() {
			for _, name := range o.names {
				if r.Container.ID == name {
					told[name] = true
				}
			}
		}
		if len(told) > n {
			a.t.Fatalf("it tells the calls of %d clients, and has moved %d", len(told), n)
		}
		return len(told) == n
	})
}

// restless skips what is left of a test when too many tries have found no moment:
// those that there were have broken nothing.
func restless(t testing.TB, tries, atMost int) {
	t.Helper()
	if tries > atMost {
		t.Skipf("this machine cannot run it: it was not at rest in %d tries", tries)
	}
}

// TestAttachLive moves clients that are quiet, that poll as the kubelet does and
// more often, and one with a stream that nobody ends: no call fails, the stream
// goes on, and who was moved is seen.
func TestAttachLive(t *testing.T) {
	onProcesses(t, func(t *testing.T, s served) {
		tries, done, began := 0, 0, time.Now()
		for want := rounds(10, 200); done < want; {
			restless(t, tries, 10*want)
			names := []string{"quiet-0", "quiet-1", "quiet-2", "quiet-3", "kubelet-0", "kubelet-1", "kubelet-2", "kubelet-3", "often-0", "stream-0"}
			o := newOlder(t, s.path, names...)
			stream := watchOn(t, o.conns[9], s.events)
			o.poll(4, 8, 270*time.Millisecond)
			o.poll(8, 9, 20*time.Millisecond)
			a := attach(t, s.path, "--live-attach")
			n := a.decided()
			o.askAll()
			o.end()
			a.tells(o, n)
			stream.runs(t, "with the move")
			o.hangUp()
			tries, done = tries+len(names), done+n
			a.detach()
			if t.Failed() {
				t.Fatalf("it said:\n%s", a.Said())
			}
		}
		t.Logf("%d of %d clients moved in %v, no call failed", done, tries, time.Since(began).Round(time.Second))
	})
}
