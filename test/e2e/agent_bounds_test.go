package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
