package ask

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
	"github.com/grpc-tap/grpc-tap/internal/identity"
	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// asked is an Asker that runs, with a runtime and a driver to ask.
type asked struct {
	*Asker
	t       *testing.T
	pods    *identity.Map
	runtime *fakecri.Runtime
	log     *strings.Builder // after the test's end
	end     func()

	mu     sync.Mutex
	listed []string // names of containers
}

const criSocket, csiSocket = "/run/dialled.sock", "/plugins/dialled/csi.sock"

func newAsked(t *testing.T) *asked {
	t.Helper()
	a := &asked{t: t, pods: identity.New(), runtime: fakecri.NewRuntime(), log: &strings.Builder{}}
	dir := t.TempDir()
	up, plugin := filepath.Join(dir, "up.sock"), filepath.Join(dir, "csi.sock")
	driver := fakecri.NewDriver()
	must(t, a.runtime.Start(up))
	must(t, driver.Start(plugin))
	a.runtime.AddPods(3)
	// A path may be longer than an address.
	long := filepath.Join(dir, strings.Repeat("long", 30))
	must(t, os.Mkdir(long, 0o755))
	must(t, os.Rename(plugin, filepath.Join(long, "csi.sock")))
	a.Asker = New(a.pods, a.learn, []string{filepath.Join(dir, "none")}, slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	a.Served(criSocket, up)
	a.Served(csiSocket, filepath.Join(long, "csi.sock"))
	a.end = sync.OnceFunc(func() {
		cancel()
		<-done
		a.runtime.Stop()
		driver.Stop()
	})
	t.Cleanup(a.end)
	return a
}

func (a *asked) learn(e *schema.Listed, f schema.Facts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f, news := a.pods.Learn(e, f); news {
		a.listed = append(a.listed, f.PodName+"/"+f.ContainerName)
	}
}

// until waits for something to be known.
func (a *asked) until(what string, known func() bool) {
	a.t.Helper()
	for end := time.Now().Add(20 * time.Second); !known(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			a.t.Fatalf("not known: %s", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serverOf is what is known of who answers at a socket.
func (a *asked) serverOf(service, socket string) (name, driver string) {
	r := &call.Record{Service: service, Socket: socket}
	a.pods.Fill(r)
	return r.Server.Name, r.Volume.Driver
}

// TestAsksWhereNothingPasses: with no traffic at all, servers are known by name
// and pods by what runs.
func TestAsksWhereNothingPasses(t *testing.T) {
	a := newAsked(t)
	a.until("the runtime", func() bool { name, _ := a.serverOf("runtime.v1.RuntimeService", criSocket); return name != "" })
	a.until("the driver", func() bool { _, driver := a.serverOf("csi.v1.Node", csiSocket); return driver == fakecri.DefaultDriver })
	a.until("pods", func() bool { return a.pods.Lists() >= 6 })
	a.end()
	if len(a.listed) != 6 {
		t.Errorf("listed %q", a.listed)
	}
}

// TestAsksForStrangers: somebody unknown is asked for at once, but not again and
// again; and of a server's error nothing but the code is logged.
func TestAsksForStrangers(t *testing.T) {
	a := newAsked(t)
	a.runtime.On(cri.RuntimeService_ListContainers_FullMethodName, fakecri.Fail(codes.Internal, "token=hunter2"))
	for range 100 {
		a.Strange(&call.Record{})
		time.Sleep(5 * time.Millisecond)
	}
	a.until("the pods", func() bool { return a.pods.Lists() > 0 })
	a.end()
	if n := a.pods.Lists(); n != 3 || strings.Contains(a.log.String(), "hunter2") || !strings.Contains(a.log.String(), "code=") {
		t.Errorf("%d listed; log:\n%s", n, a.log)
	}
}

// TestAsksRuntimesAlone: a registrar says a name too, and is asked for no lists.
func TestAsksRuntimesAlone(t *testing.T) {
	pods := identity.New()
	a := New(pods, nil, nil, slog.New(slog.DiscardHandler))
	for socket, service := range map[string]string{criSocket: runtimeService, csiSocket: identityService, "/registry/nfs.sock": "pluginregistration.Registration"} {
		f := schema.Facts{ServerName: "somebody"}
		if service == identityService {
			f.Driver = f.ServerName
		}
		pods.Complete(&call.Record{State: call.Done, Code: "OK", Service: service, Method: "GetInfo", Socket: socket}, f)
		a.Served(socket, "/none")
	}
	a.meet(t.Context())
	for kind, want := range map[kind]string{runtime: criSocket, driver: csiSocket, neither: "/registry/nfs.sock"} {
		if got := a.known(kind); len(got) != 1 || got[0].socket != want {
			t.Errorf("of kind %d: %d, want %s", kind, len(got), want)
		}
	}
}

// TestAsksPastARelay: where a relay has a path by now, whoever's it is, the server
// itself is asked.
func TestAsksPastARelay(t *testing.T) {
	own := filepath.Join(t.TempDir(), "own.sock")
	rt := fakecri.NewRuntime()
	must(t, rt.Start(own))
	defer rt.Stop()
	a := New(identity.New(), nil, nil, slog.New(slog.DiscardHandler))
	a.Own = func(path string) string {
		if path == criSocket {
			return own
		}
		return path
	}
	a.Served(criSocket, criSocket)
	a.meet(t.Context())
	if got := a.known(runtime); len(got) != 1 {
		t.Error("was not asked at its own socket")
	}
}

// TestAsksOnceMore: a volume is published before its pod's sandbox is there. Where no
// lists pass, who was not in the list yet is in the next.
func TestAsksOnceMore(t *testing.T) {
	rt := fakecri.NewRuntime()
	up := filepath.Join(t.TempDir(), "up.sock")
	must(t, rt.Start(up))
	defer rt.Stop()
	rt.AddPods(1)
	a := &asked{t: t, pods: identity.New()}
	a.Asker = New(a.pods, a.learn, nil, slog.New(slog.DiscardHandler))
	a.every = time.Second / 2
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	defer func() { cancel(); <-done }()
	a.Served(up, up)
	a.until("those who were there", func() bool { return a.pods.Lists() == 2 })
	time.Sleep(a.every)
	a.Strange(&call.Record{})
	a.until("the same again", func() bool { return a.pods.Lists() == 4 })
	rt.AddPods(1)
	a.until("who came after that", func() bool { return a.pods.Lists() == 8 })
	time.Sleep(2 * a.every)
	if n := a.pods.Lists(); n != 8 {
		t.Errorf("%d listed: it goes on asking", n)
	}
}
