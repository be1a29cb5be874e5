package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestAttachDisabled uses the kill switch: it ends what runs, without a failed
// call, allows nothing while it is there, and all when it is gone.
func TestAttachDisabled(t *testing.T) {
	n := newFakeNode(t)
	undisturbed(t, n.cri, func() {
		a := attach(t, n.cri)
		held := steadyOn(t, n.cri)
		disable := filepath.Join(a.state, "disable")
		mkdir(t, a.state)
		if err := os.WriteFile(disable, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		said := a.fails()
		if strings.Count(said, disable) != 1 || !strings.Contains(said, "remove it to allow it again") {
			t.Errorf("it does not say once why it ended:\n%s", said)
		}
		held.end()
		a.isBack()
		attachFails(t, 1, []string{n.cri, "--state-dir", a.state}, disable+" exists", "remove it to allow it again")
		if err := os.Remove(disable); err != nil {
			t.Fatal(err)
		}
		attach(t, n.cri, "--state-dir", a.state).detach()
	})
}

// TestAttachDisabledEndsAll has the kill switch end every session of a node,
// each on several paths.
func TestAttachDisabledEndsAll(t *testing.T) {
	k := newKubeletDir(t, "a.example.com", "b.example.com")
	n := newFakeNode(t)
	state := lab.New(t).Path("state")
	mkdir(t, state)
	shared := []string{"--kubelet-dir", k.dir, "--state-dir", state}
	pathA, pathB := k.drivers["a.example.com"], k.drivers["b.example.com"]
	wasA, wasB := lookAt(t, pathA), lookAt(t, pathB)
	undisturbed(t, n.cri, func() {
		one := attach(t, n.cri, "--state-dir", state)
		two := attachTarget(t, "csi", shared, pathA, pathB)
		if err := os.WriteFile(filepath.Join(state, "disable"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		one.fails()
		two.fails()
		if nowA, nowB := lookAt(t, pathA), lookAt(t, pathB); nowA != wasA || nowB != wasB {
			t.Errorf("the paths were %+v and %+v, and are %+v and %+v", wasA, wasB, nowA, nowB)
		}
	})
}

// TestAttachTripped kills three relays: no fourth starts until a person has
// looked, on whatever path.
func TestAttachTripped(t *testing.T) {
	n, other := newFakeNode(t), newFakeNode(t)
	state := lab.New(t).Path("state")
	use := []string{"--state-dir", state}
	for i := range 3 {
		a := attach(t, n.cri, use...)
		a.kill(a.relay, unix.SIGKILL)
		a.fails()
		a.isBack()
		deaths, err := os.ReadFile(filepath.Join(state, "deaths"))
		if err != nil || strings.Count(string(deaths), "\n") != i+1 || !strings.Contains(string(deaths), fmt.Sprintf(" pid %d on %s\n", a.relay, n.cri)) {
			t.Fatalf("death %d is not written down: %v\n%s", i+1, err, deaths)
		}
	}
	for _, path := range []string{n.cri, other.cri} {
		undisturbed(t, path, func() {
			attachFails(t, 1, append([]string{path}, use...), "3 relays died within 10m0s", filepath.Join(state, "deaths"), "grpc-tap doctor --reset")
		})
	}
	if out, err := tap(t, "restore", n.cri); err != nil {
		t.Errorf("restore is not free to work: %v\n%s", err, out)
	}
	// What `grpc-tap doctor --reset` does: doctor's own test has the rest.
	if err := os.Remove(filepath.Join(state, "deaths")); err != nil {
		t.Fatal(err)
	}
	attach(t, n.cri, use...).detach()
	nobodyStays(t)
}

// TestAttachTrippedByAll kills relay, guard and attach at once, again and again: the next
// relay, which gives the path back, counts that too, and after the third time takes nothing.
func TestAttachTrippedByAll(t *testing.T) {
	n := newFakeNode(t)
	was := lookAt(t, n.cri)
	state := lab.New(t).Path("state")
	use := []string{"--state-dir", state}
	kill := func() {
		t.Helper()
		a := attach(t, n.cri, use...)
		a.killAll()
		if version(n.cri) == nil {
			t.Fatal("the path answers though everybody was killed")
		}
	}
	for range 3 { // the next one gives back what this one leaves
		kill()
	}
	out, err := tap(t, append([]string{"attach", n.cri, "--for", "30s"}, use...)...)
	if err == nil || !strings.Contains(out, "its path is given back") || !strings.Contains(out, "3 relays died within 10m0s") {
		t.Errorf("attach: %v\n%s", err, out)
	}
	if now := lookAt(t, n.cri); now != was {
		t.Errorf("%s was %+v, and is %+v", n.cri, was, now)
	}
	answers(t, n.cri)
	nobodyStays(t)
}
