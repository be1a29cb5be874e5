package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestAttachPathRemoved removes the socket's file by hand while it is taken: it
// is served again at once, though nobody has bound it anew, and no call that
// had a connection fails.
func TestAttachPathRemoved(t *testing.T) {
	n := newFakeNode(t)
	direct := steadyOn(t, n.cri)
	a := attach(t, n.cri)
	relayed, during := steadyOn(t, n.cri), watchEvents(t, n.cri, containerEvents)
	if err := os.Remove(n.cri); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the path is served again", func() bool { return !absent(n.cri) })
	answers(t, n.cri)
	eventually(t, "it is taken again", func() bool { return strings.Contains(a.Said(), "on "+n.cri+" again") })
	direct.end()
	relayed.end()
	during.runs(t, "with the path's removal")
	during.hangUp()
	a.detach()
	answers(t, n.cri)
	nobodyStays(t)
}

// TestAttachNeighbourRemoved removes the server's own socket by hand, which lies
// beside the path while it is taken: nobody can put that back, so that the relay,
// the only way to the server, goes on, and says what helps.
func TestAttachNeighbourRemoved(t *testing.T) {
	for name, end := range map[string]func(a *attached){
		"detach":       func(a *attached) { a.failsToGiveBack() },
		"relay killed": func(a *attached) { a.kill(a.relay, unix.SIGKILL); a.fails() },
	} {
		t.Run(name, func(t *testing.T) {
			n := newFakeNode(t)
			a := attach(t, n.cri)
			if err := os.Remove(neighbour(t, n.cri)); err != nil {
				t.Fatal(err)
			}
			answers(t, n.cri)
			end(a)
			if want := "restart the server"; !strings.Contains(a.Said(), want) {
				t.Errorf("it does not say %q:\n%s", want, a.Said())
			}
			l := runtimeTraffic(t, n.cri)
			l.more(50)
			l.end()
			n.Stop()
			fresh := serve(t, n.cri) // it takes its path back
			answers(t, n.cri)
			nobodyStays(t)
			answers(t, n.cri)
			if names := lookAt(t, n.cri).Names; names != "cri.sock csi.sock" {
				t.Errorf("there are %s", names)
			}
			fresh.Stop()
		})
	}
}

// TestAttachDirectoryRenamed renames the directory: the path is given back where
// it is now, and who is connected stays so.
func TestAttachDirectoryRenamed(t *testing.T) {
	l := lab.New(t)
	dir, to := l.Path("driver"), l.Path("renamed")
	mkdir(t, dir)
	serve(t, filepath.Join(dir, "cri.sock"))
	a := attach(t, filepath.Join(dir, "cri.sock"))
	relayed := steadyOn(t, a.Listen)
	if err := os.Rename(dir, to); err != nil {
		t.Fatal(err)
	}
	if said := a.fails(); !strings.Contains(said, "its directory is gone") {
		t.Errorf("it does not say why it ended:\n%s", said)
	}
	relayed.end()
	a.Listen = filepath.Join(to, "cri.sock")
	answers(t, a.Listen)
	a.isBack()
}

// TestAttachDirectoryRemoved removes the directory with all that is in it, as a
// driver's uninstall does: attach ends and says so, and who is connected stays
// so for as long as its server serves it, as without us.
func TestAttachDirectoryRemoved(t *testing.T) {
	for _, anew := range []bool{false, true} {
		t.Run(map[bool]string{false: "for good", true: "and made anew"}[anew], func(t *testing.T) {
			dir := lab.New(t).Path("plugins", "driver")
			mkdir(t, dir)
			path := filepath.Join(dir, "cri.sock")
			serve(t, path)
			a := attach(t, path)
			relayed, during := steadyOn(t, path), watchEvents(t, path, containerEvents)
			// Where that takes its time, the path is put back meanwhile.
			eventually(t, "the directory is removed", func() bool { return os.RemoveAll(dir) == nil })
			var was place
			if anew {
				mkdir(t, dir)
				serve(t, path)
				was = lookAt(t, path)
			}
			said := a.fails()
			if want := "its directory is gone"; !strings.Contains(said, want) {
				t.Errorf("it does not say %q:\n%s", want, said)
			}
			relayed.end()
			during.runs(t, "with the directory's removal")
			during.hangUp()
			a.processesEnd()
			if !anew {
				if !absent(dir) {
					t.Error("the directory is there again")
				}
				return
			}
			answers(t, path)
			if now := lookAt(t, path); now != was {
				t.Errorf("%s was %+v, and is %+v", path, was, now)
			}
			attach(t, path).detach()
			nobodyStays(t)
		})
	}
}
