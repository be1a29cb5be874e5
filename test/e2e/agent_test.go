package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/grpc-tap/grpc-tap/internal/takeover"
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
	notSocat(t, "is no agent")
	l := lab.New(t)
	dir, err := os.MkdirTemp("", "agent-") // a lab's paths can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := &agent{dir: dir, config: filepath.Join(dir, "config.yaml"), node: n, Tap: &Tap{Tells: true, stopped: true, t: t, lab: l}}
	a.settings(lines...)
	// Not every machine's root may look at its first process.
	a.argv = []string{binary, "agent", "--config", a.config, "--host-pid", strconv.Itoa(os.Getpid())}
	t.Cleanup(func() { // as its lease's end would
		a.leave()
		a.gone(n.cri)
		a.uninstalled()
	})
	t.Cleanup(func() {
		if logs, _ := filepath.Glob(a.path("state/log/*.log")); t.Failed() {
			for _, log := range logs {
				t.Logf("%s:\n%s", log, contentOf(t, log))
			}
		}
	})
	return a
}

// onSystemd is onAgent where the node runs systemd.
func onSystemd(t testing.TB, n *fakeNode, lines ...string) (*agent, *lab.Systemd) {
	t.Helper()
	a := onAgent(t, n, append(lines, "unguarded: true")...) // the lab's systemd is in a cgroup of its own, which no guard can leave
	s := a.lab.Systemd(unitsDir, "")
	a.argv[len(a.argv)-1] = strconv.Itoa(s.PID())
	return a, s
}

func (a *agent) path(elem ...string) string {
	return filepath.Join(append([]string{a.dir}, elem...)...)
}

// settings are lines of its file, beside those that keep it to its directories.
func (a *agent) settings(lines ...string) {
	a.t.Helper()
	lines = append(lines, "output: json", "runtime: "+a.node.cri, "kubeletDir: "+a.path("kubelet"), "stateDir: "+a.path("state"),
		"hostDir: "+a.path("host"), "orphanTimeout: 3s")
	a.write(strings.Join(lines, "\n") + "\n")
}

// rewrite changes a line of its settings.
func (a *agent) rewrite(line, to string) {
	a.t.Helper()
	a.write(strings.Replace(contentOf(a.t, a.config), line, to, 1))
}

func (a *agent) write(settings string) {
	a.t.Helper()
	err := os.WriteFile(a.config+".new", []byte(settings), 0o600)
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

// newer is an executable of another version.
func (a *agent) newer() (path string) {
	a.t.Helper()
	path = a.path("grpc-tap")
	program, err := os.ReadFile(binary)
	if err == nil { // what is behind an executable's end is nobody's
		err = os.WriteFile(path, append(program, "newer"...), 0o755)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return path
}

// driver has a fake driver come to the kubelet's directory, and returns its socket.
func (a *agent) driver(name string) (socket string) {
	a.t.Helper()
	socket = a.path("kubelet/plugins", name, "csi.sock")
	a.serves(socket, name)
	return socket
}

// serves has a fake driver of this name come to a path.
func (a *agent) serves(socket, name string, opts ...fakecri.Option) *fakecri.Driver {
	a.t.Helper()
	d := fakecri.NewDriver(append(opts, fakecri.WithName(name))...)
	if err := errors.Join(os.MkdirAll(filepath.Dir(socket), 0o755), d.Start(socket)); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(d.Stop)
	return d
}

// stands waits until a relay of the agent's has a path.
func (a *agent) stands(path string) {
	a.t.Helper()
	a.says("on " + path + ", relayed by pid")
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

// by is the process that has a path.
func by(t testing.TB, path string) (pid int) {
	t.Helper()
	st, err := takeover.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.By
}

// taken waits until another relay than this has a path, and returns which.
func (a *agent) taken(path string, from int) (pid int) {
	a.t.Helper()
	a.Until("another relay stands on "+path, 2*eventuallyTime, func() bool {
		pid = by(a.t, path)
		return pid != 0 && pid != from
	})
	return pid
}

// relays are the pids of the relays that run on the agent's node, by the path of each.
func (a *agent) relays() map[string][]int {
	all := map[string][]int{}
	for _, pid := range running(a.path("host")) {
		if args := argv(pid); len(args) > 3 && args[1] == "relay" {
			all[args[3]] = append(all[args[3]], pid) // --take PATH
		}
	}
	return all
}

// argv is what a process was started with; nil: it is gone.
func argv(pid int) []string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
}

// killRelays kills relays and guards, all at once: the paths are dead.
func (a *agent) killRelays(paths ...string) {
	a.t.Helper()
	killAtOnce(a.t, running(a.path("host"))...)
	for _, path := range paths {
		eventually(a.t, path+" is dead", func() bool { return connect(path) == unix.ECONNREFUSED })
	}
}

// gone waits until nothing of grpc-tap is left beside paths.
func (a *agent) gone(paths ...string) {
	a.t.Helper()
	eventually(a.t, "nothing of it is left beside them", func() bool { return nothingBeside(paths...) })
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

// uninstalled waits until no executable is left on the node.
func (a *agent) uninstalled() {
	a.t.Helper()
	eventually(a.t, "no executable is left", func() bool {
		left, _ := filepath.Glob(a.path("host/*"))
		return len(left) == 0
	})
}
