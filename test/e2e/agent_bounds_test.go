package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// relays are the pids of the relays that run on the agent's node, by the path of each.
func (a *agent) relays() map[string][]int {
	a.t.Helper()
	all := map[string][]int{}
	exes, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range exes {
		if at, err := os.Readlink(exe); err != nil || !strings.HasPrefix(at, a.path("host")+"/") {
			continue
		}
		var pid int
		fmt.Sscanf(exe, "/proc/%d/", &pid)
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

// TestAgentTooMany: of drivers' sockets so many are tapped and no more, and those that are
// stay tapped, also by the next agent. The runtime's always is.
func TestAgentTooMany(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n, "maxDrivers: 2")
	tapped := []string{a.driver("m.csi.test"), a.driver("n.csi.test")}
	a.starts()
	a.stands(n.cri)
	for _, path := range tapped {
		a.stands(path)
	}
	more := []string{a.driver("a.csi.test"), a.driver("z.csi.test")} // before them in the directory, and behind
	says := func() {
		t.Helper()
		a.Until("it says which are too many", eventuallyTime, func() bool {
			return strings.Contains(a.Said(), fmt.Sprintf("2 drivers' sockets are tapped, and no more: not %q; deny (or allow) by name what need not be", more))
		})
		if all := a.relays(); len(all) != 3 || len(all[n.cri]) != 1 || len(all[tapped[0]]) != 1 || len(all[tapped[1]]) != 1 {
			t.Errorf("relays: %v", all)
		}
	}
	says()
	a.leave()
	a.starts()
	says()
	a.settings("maxDrivers: 2", "deny: [m.csi.test]")
	a.stands(more[0])
}

// TestAgentGone: a socket that is gone for good, or left dead, keeps no relay. What was
// counted stays so; and where it comes back, it is tapped again.
func TestAgentGone(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n, "metricsListen: 127.0.0.1:0")
	dir := a.path("kubelet/plugins/gone.csi.test")
	mkdir(t, dir)
	serves := func(path string) *fakecri.Driver {
		t.Helper()
		d := fakecri.NewDriver(fakecri.WithName("gone.csi.test"))
		if err := d.Start(path); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Stop)
		return d
	}
	absent, dead := filepath.Join(dir, "absent.sock"), filepath.Join(dir, "dead.sock")
	first, second := serves(absent), serves(dead)
	a.starts()
	page := pageOf(a.Tap)
	for _, path := range []string{n.cri, absent, dead} {
		a.stands(path)
	}
	const takeovers = "grpc_tap_takeovers_total"
	page.until(1, takeovers, "socket", absent, "result", "joined")

	first.Stop()
	second.Stop()
	leaveDead(t, dead)
	eventually(t, "the runtime's relay alone is left", func() bool {
		all := a.relays()
		return len(all) == 1 && len(all[n.cri]) == 1
	})
	for _, path := range []string{absent, dead} {
		if said := fmt.Sprintf("%q has been gone for 3s", path); !strings.Contains(a.Said(), said) {
			t.Errorf("it does not say %s", said)
		}
		page.until(1, takeovers, "socket", path, "result", "joined")
	}
	a.told(n.cri, func() error { return version(n.cri) })

	serves(absent)
	page.until(2, takeovers, "socket", absent, "result", "joined")
	a.told(absent, func() error { return probe(absent) })
}

// leaveDead leaves a socket that nobody listens to, as one whose server was killed.
func leaveDead(t testing.TB, path string) {
	t.Helper()
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	lis.SetUnlinkOnClose(false)
	lis.Close()
}
