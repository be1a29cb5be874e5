package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// standsNot are nodes on which no relay can stand, what an agent is to say there, and
// how that is mended.
var standsNot = map[string]struct {
	spoil func(t *testing.T, host, sockets, state string)
	says  []string // HOST, SOCKETS and STATE are the directories
	mend  func(t *testing.T, host, sockets, state string)
}{
	"hostDir is noexec": {
		func(t *testing.T, host, _, _ string) { remount(t, host, unix.MS_NOEXEC) },
		[]string{"the file system of HOST is mounted noexec", "choose another place by --host-dir (hostDir in the file of settings)"},
		func(t *testing.T, host, _, _ string) { remount(t, host, 0) },
	},
	"hostDir is read-only": {
		func(t *testing.T, host, _, _ string) { remount(t, host, unix.MS_RDONLY) },
		[]string{"the file system of HOST is read-only", "choose another place by --host-dir (hostDir in the file of settings)"},
		func(t *testing.T, host, _, _ string) { remount(t, host, 0) },
	},
	"the socket's directory is read-only": { // which only the relay comes to know
		func(t *testing.T, _, sockets, _ string) { remount(t, sockets, unix.MS_RDONLY) },
		[]string{"create the lock file ", "read-only file system; SOCKETS is read-only: make it writable"},
		func(t *testing.T, _, sockets, _ string) { remount(t, sockets, 0) },
	},
	"the taps' directory is everybody's": {
		func(t *testing.T, _, _, state string) {
			mkdir(t, filepath.Join(state, "mirror"))
			chmod(t, filepath.Join(state, "mirror"), 0o777)
		},
		[]string{"the taps' socket STATE/mirror/", "chown 0 STATE/mirror && chmod 700 STATE/mirror"},
		func(t *testing.T, _, _, state string) { chmod(t, filepath.Join(state, "mirror"), 0o700) },
	},
}

func chmod(t testing.TB, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestAgentSaysWhy: where no relay comes to stand, the agent says why and what to do, in
// its log and to who asks whether it is ready. Once that is mended, one stands; and none
// that failed leaves its executable.
func TestAgentSaysWhy(t *testing.T) {
	needRoot(t, "it mounts")
	for name, node := range standsNot {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits for the next try
			host, sockets := tmpfs(t, "size=128m"), tmpfs(t, "size=64k")
			n := &fakeNode{cri: filepath.Join(sockets, "cri.sock"), t: t}
			serve(t, n.cri)
			a := onAgent(t, n, "metricsListen: 127.0.0.1:0")
			a.argv = append(a.argv, "--host-dir", host)
			state := a.path("state")
			node.spoil(t, host, sockets, state)
			a.starts()
			page := pageOf(a.Tap)

			names := strings.NewReplacer("HOST", host, "SOCKETS", sockets, "STATE", state)
			a.says("no relay stands at " + n.cri + ": ")
			code, ready := page.get("/readyz", "")
			if code != http.StatusServiceUnavailable {
				t.Errorf("/readyz: %d", code)
			}
			for _, text := range node.says {
				text = names.Replace(text)
				if !strings.Contains(a.Said(), text) || !strings.Contains(ready, text) {
					t.Errorf("it does not say %q:\n%s/readyz: %s", text, a.Said(), ready)
				}
			}
			eventually(t, "no executable is left", func() bool { left, _ := filepath.Glob(host + "/*"); return len(left) == 0 })

			node.mend(t, host, sockets, state)
			a.stands(n.cri)
			if code, ready := page.get("/readyz", ""); code != http.StatusOK {
				t.Errorf("/readyz: %d %s", code, ready)
			}
			if said := strings.Count(a.Said(), "no relay stands"); said != 1 {
				t.Errorf("said %d times:\n%s", said, a.Said())
			}
		})
	}
}

// TestAgentNotReadyAtOnce: where no relay can stand, the agent is at no time ready: a rolling
// update must not walk on.
func TestAgentNotReadyAtOnce(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n, "metricsListen: 127.0.0.1:0")
	if err := os.WriteFile(a.path("host"), nil, 0o600); err != nil { // no directory can be made there
		t.Fatal(err)
	}
	a.starts()
	page := pageOf(a.Tap)
	a.Until("it says why", eventuallyTime, func() bool {
		if code, ready := page.get("/readyz", ""); code != http.StatusServiceUnavailable {
			t.Errorf("/readyz: %d %s", code, ready)
		}
		return strings.Contains(a.Said(), "no relay stands at "+n.cri+": ")
	})
	if code, body := page.get("/healthz", ""); code != http.StatusOK {
		t.Errorf("/healthz: %d %s", code, body)
	}
}

// TestAgentUnitsSayWhy: the same of a transient unit. If the agent is deleted then, nothing
// of it is left on the node.
func TestAgentUnitsSayWhy(t *testing.T) {
	n := newFakeNode(t)
	a, s := onSystemd(t, n)
	mkdir(t, a.path("state/mirror"))
	chmod(t, a.path("state/mirror"), 0o777)
	a.starts()
	a.says("no relay stands at " + n.cri + ": the taps' socket ")
	a.leave()
	a.uninstalled()
	eventually(t, "no unit is left", func() bool {
		units, err := s.Ctl("list-units", "--all", "--plain", "--no-legend", "grpc-tap-*")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(units) == ""
	})
}
