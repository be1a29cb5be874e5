package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// contend starts an attach without waiting for anything.
func contend(t *testing.T, path string) *attached {
	t.Helper()
	l := lab.New(t)
	a := &attached{Tap: &Tap{Listen: path, Tells: true, t: t, lab: l}, state: l.Path("state")}
	a.Process = l.Start("attach", nil, binary, "attach", path, "-o", "json", "--state-dir", a.state)
	t.Cleanup(a.Kill)
	return a
}

// settle waits until it is on its path, or has ended.
func (a *attached) settle() (on bool) {
	a.t.Helper()
	eventually(a.t, "attach is on its path or ends", func() bool {
		on = onPath.MatchString(a.Said())
		select {
		case <-a.Done():
			return true
		default:
			return on
		}
	})
	if on {
		fmt.Sscan(onPath.FindStringSubmatch(a.Said())[1], &a.relay)
		a.guard = childOf(a.relay, "guard")
	}
	return on
}

// TestAttachTwice starts two at once, also over different links to one socket:
// exactly one is on it, and the other says who. When that one has ended a third
// is as welcome, and no call fails of those who call meanwhile.
func TestAttachTwice(t *testing.T) {
	n := newFakeNode(t)
	dir := lab.New(t).Dir
	byFile, byDir := link(t, n.cri, dir+"/l.sock"), link(t, filepath.Dir(n.cri), dir+"/l")+"/cri.sock"
	undisturbed(t, n.cri, func() {
		for i := range rounds(6, 60) {
			paths := [][2]string{{n.cri, n.cri}, {byFile, byDir}, {byDir, n.cri}}[i%3]
			was := lookAt(t, n.cri)
			a, b := contend(t, paths[0]), contend(t, paths[1])
			winner, loser := a, b
			if !a.settle() {
				winner, loser = b, a
			}
			if !winner.settle() {
				t.Fatalf("neither is on the path:\n%s%s", a.Said(), b.Said())
			}
			said := loser.fails()
			if want := fmt.Sprintf("%s: another grpc-tap is on it (pid %d); ", n.cri, winner.relay); !strings.HasPrefix(said, "grpc-tap: "+want) || strings.Count(said, "\n") != 1 {
				t.Errorf("round %d: not one line that says %q:\n%s", i, want, said)
			}
			winner.Listen, winner.was = n.cri, was
			winner.detach()
			attach(t, n.cri).detach()
			if t.Failed() {
				t.FailNow()
			}
		}
	})
}

// TestAttachTwiceInOne names one socket twice in one command.
func TestAttachTwiceInOne(t *testing.T) {
	n := newFakeNode(t)
	l := link(t, n.cri, lab.New(t).Dir+"/l.sock")
	undisturbed(t, n.cri, func() {
		attach(t, n.cri, n.cri).detach()
		attach(t, n.cri, l).detach()
	})
}
