package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// agent is a `grpc-tap agent` on a fake node of its own.
type agent struct {
	*Tap
	dir    string // everything of it: state, host, kubelet
	config string
	argv   []string
	env    []string
	node   *fakeNode
}

// onAgent makes an agent on a fake node, whose end leaves nothing there.
func onAgent(t testing.TB, n *fakeNode, lines ...string) *agent {
	t.Helper()
	if binary == "" {
		t.Skip("socat is no agent")
	}
	l := lab.New(t)
	dir, err := os.MkdirTemp("", "agent-") // a lab's paths can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := &agent{dir: dir, node: n, Tap: &Tap{Tells: true, stopped: true, t: t, lab: l}}
	a.settings(lines...)
	// Not every machine's root may look at its first process.
	a.argv = []string{binary, "agent", "--config", a.config, "--host-pid", strconv.Itoa(os.Getpid())}
	t.Cleanup(func() { // as its lease's end would
		a.leave()
		a.gone(n.cri)
		eventually(t, "no executable is left", func() bool { left, _ := filepath.Glob(a.path("host/*")); return len(left) == 0 })
	})
	return a
}

func (a *agent) path(elem ...string) string {
	return filepath.Join(append([]string{a.dir}, elem...)...)
}

// settings are lines of its file, beside those that keep it to its directories.
func (a *agent) settings(lines ...string) {
	a.t.Helper()
	lines = append(lines, "output: json", "runtime: "+a.node.cri, "kubeletDir: "+a.path("kubelet"), "stateDir: "+a.path("state"),
		"hostDir: "+a.path("host"), "orphanTimeout: 3s")
	a.config = a.path("config.yaml")
	err := os.WriteFile(a.config+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600)
	if err = errors.Join(err, os.Rename(a.config+".new", a.config)); err != nil {
		a.t.Fatal(err)
	}
}

// starts starts it, again and again.
func (a *agent) starts() {
	a.t.Helper()
	a.Process = a.lab.Start("agent", a.env, a.argv...)
	a.stopped = false
}

// driver has a fake driver come to the kubelet's directory, and returns its socket.
func (a *agent) driver(name string) (socket string) {
	a.t.Helper()
	socket, _ = a.scripted(name)
	return socket
}

// scripted is driver, for one that is told what to answer.
func (a *agent) scripted(name string) (socket string, d *fakecri.Driver) {
	a.t.Helper()
	socket = a.path("kubelet/plugins", name, "csi.sock")
	d = fakecri.NewDriver(fakecri.WithName(name))
	if err := errors.Join(os.MkdirAll(filepath.Dir(socket), 0o755), d.Start(socket)); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(d.Stop)
	return socket, d
}

// stands waits until a relay of the agent's has a path.
func (a *agent) stands(path string) {
	a.t.Helper()
	a.Until("a relay stands on "+path, eventuallyTime, func() bool {
		return strings.Contains(a.Said(), "on "+path+", relayed by pid")
	})
}

// told waits for a call on a socket that is made again and again.
func (a *agent) told(socket string, call func() error) {
	a.t.Helper()
	seen := len(a.Records())
	a.Until("calls on "+socket+" are told", eventuallyTime, func() bool {
		if err := call(); err != nil {
			a.t.Fatal(err)
		}
		for _, r := range a.Records()[seen:] {
			if r.Socket == socket {
				return true
			}
		}
		return false
	})
}

// probe is a call to a driver, on a connection of its own as the kubelet's.
func probe(socket string) error {
	conn, err := dial(socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = csi.NewIdentityClient(conn).Probe(context.Background(), &csi.ProbeRequest{}, grpc.WaitForReady(true))
	return err
}

// gone waits until nothing of grpc-tap is left beside paths.
func (a *agent) gone(paths ...string) {
	a.t.Helper()
	eventually(a.t, "nothing of it is left beside them", func() bool {
		return nothingBeside(paths...)
	})
}

// nothingBeside: no file of ours is beside these paths.
func nothingBeside(paths ...string) bool {
	for _, p := range paths {
		beside, _ := filepath.Glob(filepath.Join(filepath.Dir(p), "."+filepath.Base(p)+".grpc-tap*"))
		if len(beside) > 0 {
			return false
		}
	}
	return true
}

// TestAgentLife takes an agent through its life under traffic: it taps what is there
// and what comes, is killed and started again, changes its settings, is stopped, and
// leaves the node as it was. No call fails.
func TestAgentLife(t *testing.T) {
	n := newFakeNode(t)
	n.AddPods(20)
	a := onAgent(t, n)
	first := a.driver("first.csi.test")
	was := lookAt(t, n.cri)
	l := runtimeTraffic(t, n.cri)
	a.starts()
	a.stands(n.cri)
	a.stands(first)
	l.more(50)
	a.told(n.cri, func() error { return nil })
	a.told(first, func() error { return probe(first) })

	second := a.driver("second.csi.test")
	a.stands(second)
	a.told(second, func() error { return probe(second) })

	for i := range 3 {
		if i%2 == 0 {
			a.Killed()
		} else {
			a.leave()
		}
		l.more(20)
		a.starts()
		a.stands(n.cri)
		a.told(n.cri, func() error { return nil })
		if l.fine(); t.Failed() {
			t.FailNow()
		}
	}

	a.leave()
	a.gone(n.cri, first, second)
	l.more(20)
	l.end()
	if now := lookAt(t, n.cri); now != was {
		t.Errorf("%s was %+v, and is %+v", n.cri, was, now)
	}
	t.Logf("%d calls, none failed", l.done.Load())
}

// TestAgentSettings: another file of settings is gone on with, one with a mistake is
// not, and what is denied from then on is given back in time.
func TestAgentSettings(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n)
	first, second := a.driver("first.csi.test"), a.driver("second.csi.test")
	a.starts()
	for _, path := range []string{n.cri, first, second} {
		a.stands(path)
	}
	a.settings("denyy: [second*]", "payload: some")
	a.Until("a mistake is said", eventuallyTime, func() bool {
		return strings.Contains(a.Said(), "is not taken: ") && strings.Contains(a.Said(), `there is no setting "denyy"`)
	})
	a.told(second, func() error { return probe(second) })

	a.settings("deny: [second*]")
	a.Until("the change is taken", eventuallyTime, func() bool { return strings.Contains(a.Said(), "has changed: going on") })
	a.gone(second)
	a.told(first, func() error { return probe(first) })
	a.told(n.cri, func() error { return version(n.cri) })
	if err := probe(second); err != nil {
		t.Error(err)
	}
}

// TestAgentDisabled: the kill switch has every path given back, and none is taken while
// it is there. Relays that end all at once leave no executable either.
func TestAgentDisabled(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n)
	paths := []string{n.cri}
	for i := range 8 {
		paths = append(paths, a.driver(fmt.Sprintf("d%d.csi.test", i)))
	}
	a.starts()
	for _, path := range paths {
		a.stands(path)
	}
	disable := a.path("state/disable")
	if err := os.WriteFile(disable, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a.gone(paths...)
	eventually(t, "no executable is left", func() bool { left, _ := filepath.Glob(a.path("host/*")); return len(left) == 0 })
	a.Until("it says so", eventuallyTime, func() bool { return strings.Contains(a.Said(), "nothing is tapped: ") })
	if err := errors.Join(version(n.cri), os.Remove(disable)); err != nil {
		t.Fatal(err)
	}
	a.Until("it is taken again", 2*eventuallyTime, func() bool { return by(t, n.cri) != 0 })
	a.told(n.cri, func() error { return version(n.cri) })
}

// TestAgentRescuesDisabled: it gives it back also where nothing may be tapped.
func TestAgentRescuesDisabled(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n)
	a.starts()
	a.stands(n.cri)
	a.Killed()
	a.killRelays()
	if version(n.cri) == nil {
		t.Fatal("a path without relay and guard answers")
	}
	if err := os.WriteFile(a.path("state/disable"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a.starts()
	a.gone(n.cri)
	if err := version(n.cri); err != nil {
		t.Error(err)
	}
}

// TestAgentRescues: where relay, guard and agent were killed at once, the path is dead; the
// agent that comes gives it back, and taps it.
func TestAgentRescues(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n)
	driver := a.driver("first.csi.test")
	a.starts()
	a.stands(n.cri)
	a.stands(driver)
	a.Killed()
	a.killRelays()
	for _, err := range []error{version(n.cri), probeNow(driver)} {
		if err == nil {
			t.Fatal("a path without relay and guard answers")
		}
	}
	a.starts()
	a.stands(n.cri)
	a.stands(driver)
	a.told(n.cri, func() error { return version(n.cri) })
	a.told(driver, func() error { return probe(driver) })
}

// TestAgentStrangers: a socket whose server does not say who it is, since it speaks
// something else or hangs, is not taken: it might be one that is denied. It is not
// greeted again and again either.
func TestAgentStrangers(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n, "deny: [slow.csi.test]")
	foreign, slow := a.path("kubelet/plugins/foreign/x.sock"), a.path("kubelet/plugins/slow/csi.sock")
	if err := errors.Join(os.MkdirAll(filepath.Dir(foreign), 0o755), os.MkdirAll(filepath.Dir(slow), 0o755)); err != nil {
		t.Fatal(err)
	}
	dialled := silent(t, foreign)
	d := fakecri.NewDriver(fakecri.WithName("slow.csi.test"), fakecri.WithServerOptions(grpc.UnaryInterceptor(
		func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})))
	if err := d.Start(slow); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	a.starts()
	for _, path := range []string{foreign, slow} {
		a.Until("it says why "+path+" is not tapped", eventuallyTime, func() bool {
			return strings.Contains(a.Said(), fmt.Sprintf("%q is not tapped: it does not say who it is", path))
		})
	}
	for i := range 3 { // each comes at a later look
		a.stands(a.driver(fmt.Sprintf("later%d.csi.test", i)))
	}
	if n := dialled.Load(); n != 1 || !nothingBeside(foreign, slow) {
		t.Errorf("the foreign server was dialled %d times; nothing is beside them: %t", n, nothingBeside(foreign, slow))
	}
}

// silent is a server that accepts and says nothing, and counts who dials.
func silent(t testing.TB, path string) *atomic.Int64 {
	t.Helper()
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	dialled := new(atomic.Int64)
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			go func() { _, _ = io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	return dialled
}

// killRelays kills relays and guards, all at once.
func (a *agent) killRelays() {
	a.t.Helper()
	eventually(a.t, "relays and guards are dead", func() bool {
		left := 0
		exes, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, exe := range exes {
			at, err := os.Readlink(exe)
			if pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(exe))); err == nil && strings.HasPrefix(at, a.path("host")+"/") {
				left++
				_ = unix.Kill(pid, unix.SIGSTOP) // none may act on another's death
				defer unix.Kill(pid, unix.SIGKILL)
			}
		}
		return left == 0
	})
}

// probeNow is probe, where an answer is not waited for.
func probeNow(socket string) error {
	conn, err := dial(socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = csi.NewIdentityClient(conn).Probe(context.Background(), &csi.ProbeRequest{})
	return err
}
