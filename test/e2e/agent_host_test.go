package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

// by is the process that has a path.
func by(t testing.TB, path string) (pid int) {
	t.Helper()
	st, err := takeover.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.By
}

// TestAgentUpgrade: an agent of another version has relays of its own take the place of
// those that stand. No call fails, and of the old version nothing stays.
func TestAgentUpgrade(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n)
	l := runtimeTraffic(t, n.cri)
	a.starts()
	a.stands(n.cri)
	l.more(20)
	old := by(t, n.cri)
	a.leave()

	a.argv[0] = a.newer()
	a.starts()
	a.stands(n.cri)
	a.Until("another relay stands", eventuallyTime, func() bool { pid := by(t, n.cri); return pid != 0 && pid != old })
	a.told(n.cri, func() error { return nil })
	l.more(20)
	a.Until("the old one has ended, and its executable is gone", 2*eventuallyTime, func() bool {
		exes, _ := filepath.Glob(a.path("host/grpc-tap-*"))
		return unix.Kill(old, 0) != nil && len(exes) == 1
	})
	l.fine()
	l.end()
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

// onNode holds that a relay runs on the node itself, as another process does that is
// given: from a file in its directory, and in its namespaces.
func onNode(t testing.TB, relay, process int, dir string) {
	t.Helper()
	if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", relay)); filepath.Dir(exe) != dir {
		t.Errorf("the relay is %s, not of %s", exe, dir)
	}
	for _, name := range []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", relay, name))
		node, nodeErr := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", process, name))
		if err := errors.Join(err, nodeErr); err != nil || theirs != node {
			t.Errorf("the relay is in %s, and the node is %s (%v)", theirs, node, err)
		}
	}
}

// TestAgentInContainer: an agent in namespaces of its own, where its executable and its
// directories are other than the node's, has its relays run on the node; also where
// hostDir is behind a link there, as /usr/local is on some.
func TestAgentInContainer(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n)
	mkdir(t, a.path("inside"))
	mkdir(t, a.path("real/host"))
	if err := os.Symlink("real", a.path("link")); err != nil {
		t.Fatal(err)
	}
	a.argv = append(a.argv, "--host-dir", a.path("link/host"))
	script := `mount -t tmpfs inside "$DIR/inside"; mount -t tmpfs covers "$DIR/real/host"; cp "$0" "$DIR/inside/grpc-tap"; shift 0; exec "$DIR/inside/grpc-tap" "$@"`
	a.argv = append([]string{"env", "DIR=" + a.dir, "unshare", "--mount", "--ipc", "--uts", "--net", "--cgroup", "sh", "-ec", script, binary}, a.argv[1:]...)
	l := runtimeTraffic(t, n.cri)
	a.starts()
	a.stands(n.cri)
	l.more(20)
	relay := by(t, n.cri)
	onNode(t, relay, os.Getpid(), a.path("real/host"))
	a.Killed()
	l.more(20)
	a.starts()
	a.stands(n.cri)
	a.told(n.cri, func() error { return nil })
	if again := by(t, n.cri); again != relay {
		t.Errorf("the relay was %d, and is %d", relay, again)
	}
	l.fine()
	l.end()
}

// TestAgentUnits: where the node runs systemd, relays are transient units, and what ends
// the agent does not end them; killed, they are started again; and the lease's end leaves
// no unit.
func TestAgentUnits(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n, "unguarded: true") // the lab's systemd is in a cgroup of its own, which no guard can leave
	s := a.lab.Systemd(filepath.Join("..", "..", "deploy", "systemd"), "")
	a.argv = append(a.argv[:len(a.argv)-1], fmt.Sprint(s.PID()))
	l := runtimeTraffic(t, n.cri)
	a.starts()
	a.stands(n.cri)
	l.more(20)
	units := func() []string {
		out, err := s.Ctl("list-units", "--plain", "--no-legend", "grpc-tap-*")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(out)
	}
	unit := append(units(), "")[0]
	relay := by(t, n.cri)
	if s.MainPID(unit) != relay {
		t.Fatalf("pid %d has the path, which is not unit %q's (%v)", relay, unit, units())
	}
	a.Killed()
	l.more(20)
	a.starts()
	a.stands(n.cri)
	l.fine()
	l.end()
	a.Killed()
	if err := unix.Kill(relay, unix.SIGKILL); err != nil { // no guard, and no agent
		t.Fatal(err)
	}
	eventually(t, "systemd starts it again, which gives the path back", func() bool { return version(n.cri) == nil })
	a.starts()
	a.stands(n.cri)
	a.told(n.cri, func() error { return version(n.cri) })
	a.leave()
	a.gone(n.cri)
	eventually(t, "no unit is left", func() bool { return len(units()) == 0 })
}

// TestAgentSystemdStands: a systemd that stands still, and starts nothing, does not keep the
// agent from all else.
func TestAgentSystemdStands(t *testing.T) {
	t.Parallel() // it waits for it for ten seconds
	n := newFakeNode(t)
	a := onAgent(t, n, "unguarded: true")
	s := a.lab.Systemd(filepath.Join("..", "..", "deploy", "systemd"), "")
	a.argv = append(a.argv[:len(a.argv)-1], fmt.Sprint(s.PID()))
	a.starts()
	a.stands(n.cri)
	if err := unix.Kill(s.PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(s.PID(), unix.SIGCONT)
	driver := a.driver("new.csi.test")
	a.Until("it says that systemd does not answer", 2*eventuallyTime, func() bool {
		return strings.Contains(a.Said(), driver+": ask systemd to start ")
	})
	a.told(n.cri, func() error { return version(n.cri) })
	a.leave()
}

// TestAgentMovesLater: a client for which there is no moment when the agent comes is
// seen once it calls less.
func TestAgentMovesLater(t *testing.T) {
	needRoot(t, "pidfd_getfd")
	t.Parallel() // it waits for half a minute
	s := fakeProcess(t, 0)
	l := newLoad(t)
	l.stays(s.path)
	a := onAgent(t, &fakeNode{cri: s.path, t: t}, "liveAttach: true", "liveAgain: 1s")
	a.starts()
	a.Until("there is no moment", time.Minute, func() bool { return strings.Contains(a.Said(), "there was no moment within") })
	l.end()
	a.Until("it is moved", time.Minute, func() bool { return strings.Contains(a.Said(), "1 connection moved, and seen from the next call on") })
}
