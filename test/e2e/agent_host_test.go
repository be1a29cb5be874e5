package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

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
	a, s := onSystemd(t, n)
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
	a, s := onSystemd(t, n)
	a.starts()
	a.stands(n.cri)
	stop(t, s.PID())
	defer unix.Kill(s.PID(), unix.SIGCONT)
	driver := a.driver("new.csi.test")
	a.says(driver + ": ask systemd to start ")
	a.told(n.cri, func() error { return version(n.cri) })
	a.leave()
}
