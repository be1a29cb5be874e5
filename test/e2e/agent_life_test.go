package e2e

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

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
	a.uninstalled()
	a.says("nothing is tapped: ")
	if err := errors.Join(version(n.cri), os.Remove(disable)); err != nil {
		t.Fatal(err)
	}
	a.taken(n.cri, 0)
	a.told(n.cri, func() error { return version(n.cri) })
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
	a.killRelays(n.cri, driver)
	a.starts()
	a.stands(n.cri)
	a.stands(driver)
	a.told(n.cri, func() error { return version(n.cri) })
	a.told(driver, func() error { return probe(driver) })
}

// TestAgentRescuesDisabled: the same where nothing may be tapped: given back it is.
func TestAgentRescuesDisabled(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n)
	a.starts()
	a.stands(n.cri)
	a.Killed()
	a.killRelays(n.cri)
	if err := os.WriteFile(a.path("state/disable"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a.starts()
	a.gone(n.cri)
	if err := version(n.cri); err != nil {
		t.Error(err)
	}
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
	a.says("there was no moment within")
	l.end()
	a.says("1 connection moved, and seen from the next call on")
}
