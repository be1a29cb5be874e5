package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// Live attach where it is not for: it says so in one line, and goes on.

// pollSocket is, in the environment of this test's program, the socket that it is
// to poll, in place of the tests.
const pollSocket = "GRPC_TAP_E2E_POLL"

// poll calls four times a second, until SIGTERM.
func poll(socket string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer cancel()
	conn, err := dial(socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	for first := true; ctx.Err() == nil; first = false {
		if _, err := cri.NewRuntimeServiceClient(conn).Version(context.Background(), &cri.VersionRequest{}); err != nil {
			return err
		}
		if first {
			fmt.Println("connected")
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil
}

// pollAs starts a program of this name that polls a socket, and returns when it is
// connected.
func pollAs(t testing.TB, name, socket string) *lab.Process {
	t.Helper()
	l := lab.New(t)
	self, err := os.ReadFile("/proc/self/exe")
	program := l.Path(name)
	if err == nil {
		err = os.WriteFile(program, self, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := l.Start(name, []string{pollSocket + "=" + socket}, program)
	p.Until("it is connected", eventuallyTime, func() bool {
		out, _ := os.ReadFile(p.Stdout)
		return len(out) > 0
	})
	return p
}

// TestAttachLiveSidecar leaves a client alone whose name is that of one which may
// exit, and moves another.
func TestAttachLiveSidecar(t *testing.T) {
	needRoot(t, "pidfd_getfd")
	s := fakeProcess(t, 10)
	probe := pollAs(t, "livenessprobe", s.path)
	for n, tries := 0, 0; n == 0; tries++ { // until there was a moment for the other
		restless(t, tries, 5)
		other := pollAs(t, "other", s.path)
		a := attach(t, s.path, "--live-attach")
		n = a.decided()
		a.says(fmt.Sprintf("1 connection not moved, and not seen: livenessprobe (pid %d)", probe.PID()), "may exit when they are sent off")
		if n > 0 {
			a.says(fmt.Sprintf("1 connection moved, and seen from the next call on: other (pid %d)", other.PID()))
			a.Wait("its call", func(r Record) bool { return r.Caller.PID == other.PID() })
		}
		if err := other.Stop(eventuallyTime); err != nil {
			t.Errorf("the client that may be moved ended with %v", err)
		}
		for _, r := range a.Records() {
			if r.Caller.PID == probe.PID() {
				t.Errorf("a call of the sidecar's is seen: %s", r)
			}
		}
		a.detach()
	}
	if err := probe.Stop(eventuallyTime); err != nil {
		t.Errorf("the sidecar ended with %v", err)
	}
}

// TestAttachLiveTwice attaches again while a client that was moved has an old
// stream open: that connection is not told a second time.
func TestAttachLiveTwice(t *testing.T) {
	onProcesses(t, func(t *testing.T, s served) {
		state := lab.New(t).Path("state")
		o := newOlder(t, s.path, "stream-0")
		stream := watchOn(t, o.conns[0], s.events)
		for n, tries := 0, 0; n == 0; tries++ { // until there was a moment
			restless(t, tries, 5)
			a := attach(t, s.path, "--live-attach", "--state-dir", state)
			n = a.decided()
			o.askAll()
			a.tells(o, n)
			a.detach()
			if strings.Contains(a.Said(), "earlier session") {
				t.Fatalf("there was none that sent it off:\n%s", a.Said())
			}
		}
		a := attach(t, s.path, "--live-attach", "--state-dir", state)
		a.says("not moved, and not seen", "sent off by an earlier session")
		stream.runs(t, "with the second session")
		o.hangUp()
		a.detach()
	})
}

// TestAttachLiveWithoutRights has no CAP_SYS_PTRACE: it says so, and goes on.
func TestAttachLiveWithoutRights(t *testing.T) {
	needRoot(t, "it gives up a capability")
	s := fakeProcess(t, 0)
	o := newOlder(t, s.path, "quiet-0")
	l := lab.New(t)
	a := &attached{Tap: &Tap{Listen: s.path, Tells: true, t: t, lab: l}, state: l.Path("state"), was: lookAt(t, s.path)}
	t.Cleanup(a.detach)
	a.run("setpriv", "--bounding-set=-sys_ptrace", binary, "attach", s.path, "-o", "json", "--state-dir", a.state, "--live-attach")
	a.says("1 connection not moved, and not seen", "CAP_SYS_PTRACE", "restart the client")
	o.askAll()
	newOlder(t, s.path, "newer-0").hangUp()
	a.Wait("a call of who has dialled since", func(r Record) bool { return r.Container.ID == "newer-0" })
	o.hangUp()
}

// TestAttachLiveIsNamed holds that who could be moved is told how, and who could
// not is not; and that a CSI driver's clients are left alone by --live-attach too.
func TestAttachLiveIsNamed(t *testing.T) {
	const hint = "or with --live-attach: "
	t.Run("runtime", func(t *testing.T) {
		n := newFakeNode(t)
		o := newOlder(t, n.cri, "quiet-0")
		defer o.hangUp()
		a := attach(t, n.cri)
		a.says("connected already, and not seen until they dial anew", hint+"e2e.test (pid ")
	})
	t.Run("sidecar", func(t *testing.T) {
		s := fakeProcess(t, 0)
		probe := pollAs(t, "livenessprobe", s.path)
		a := attach(t, s.path)
		a.says("connected already, and not seen until they dial anew", "livenessprobe (pid ")
		if strings.Contains(a.Said(), hint) {
			t.Errorf("it names what is not for sidecars:\n%s", a.Said())
		}
		if err := probe.Stop(eventuallyTime); err != nil {
			t.Error(err)
		}
	})
	t.Run("driver", func(t *testing.T) {
		k := newKubeletDir(t, "nfs")
		conn, err := dial(k.drivers["nfs"])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		probe := func() {
			if _, err := csi.NewIdentityClient(conn).Probe(t.Context(), &csi.ProbeRequest{}); err != nil {
				t.Error(err)
			}
		}
		probe()
		l := lab.New(t)
		a := &attached{Tap: &Tap{Listen: k.drivers["nfs"], Tells: true, t: t, lab: l}, state: l.Path("state"), was: lookAt(t, k.drivers["nfs"])}
		t.Cleanup(a.detach)
		a.run(binary, "attach", "csi", "--kubelet-dir", k.dir, "-o", "json", "--state-dir", a.state, "--live-attach", "--for", "8s")
		a.says("connected already, and not seen until they dial anew, as when they are restarted: e2e.test (pid ")
		<-a.Done() // later than a moment would have been
		a.stopped = true
		if strings.Contains(a.Said(), " moved") {
			t.Errorf("it has minded a driver's client:\n%s", a.Said())
		}
		probe()
		a.isBack()
	})
}

// otherServer is an HTTP/2 server that is not grpc-go's.
const otherServer = `package main

import (
	"net"
	"net/http"
	"os"
)

func main() {
	l, err := net.Listen("unix", os.Args[1])
	if err != nil {
		panic(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	s := &http.Server{Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	panic(s.Serve(l))
}
`

// TestAttachLiveOtherServers is of a server that is not built with grpc-go, and of
// one that is and does not serve this path with it, as CRI-O's cmux.
func TestAttachLiveOtherServers(t *testing.T) {
	needRoot(t, "pidfd_getfd")
	declines := func(t *testing.T, path, why string) {
		t.Helper()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		a := attach(t, path, "--live-attach")
		a.says("1 connection not moved, and not seen: e2e.test", why, "restart the client")
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")); err != nil {
			t.Error(err)
		}
		if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 404") {
			t.Errorf("its client got %q, %v", answer, err)
		}
		a.detach()
	}
	t.Run("program", func(t *testing.T) {
		l := lab.New(t)
		path, program := l.Path("http.sock"), l.Path("server")
		if out, err := l.Run("go", "build", "-o", program, l.Write("server.go", otherServer)); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		l.Start("server", nil, program, path).Accepts(path, eventuallyTime)
		declines(t, path, "is not built with grpc-go")
	})
	t.Run("listener", func(t *testing.T) {
		path := lab.New(t).Path("http.sock")
		lis, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		lis.(*net.UnixListener).SetUnlinkOnClose(false)
		server := &http.Server{Protocols: new(http.Protocols), Handler: http.NotFoundHandler()}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		go func() { _ = server.Serve(lis) }()
		t.Cleanup(func() { server.Close() })
		declines(t, path, "does not greet as grpc-go does by itself")
	})
}
