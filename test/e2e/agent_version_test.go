package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
	a.taken(n.cri, old)
	a.told(n.cri, func() error { return nil })
	l.more(20)
	a.Until("the old one has ended, and its executable is gone", 2*eventuallyTime, func() bool {
		exes, _ := filepath.Glob(a.path("host/grpc-tap-*"))
		return unix.Kill(old, 0) != nil && len(exes) == 1
	})
	l.fine()
	l.end()
}

// TestAgentTwoVersions: of two agents of different versions on one node, as in a rollout,
// the one that came last has relays of its own, and the other lets them be until it leaves.
// No call fails.
func TestAgentTwoVersions(t *testing.T) {
	t.Parallel() // it waits until the older one might start a relay again
	n := newFakeNode(t)
	a := onAgent(t, n)
	l := runtimeTraffic(t, n.cri)
	a.starts()
	a.stands(n.cri)
	old := by(t, n.cri)

	other := a.lab.Start("other", nil, append([]string{a.newer()}, a.argv[1:]...)...)
	defer other.Kill()
	relay := a.taken(n.cri, old)
	a.says("another grpc-tap reads " + n.cri + " now")
	for began := time.Now(); time.Since(began) < 25*time.Second; l.more(20) { // a relay may be started again after 15
		if now := by(t, n.cri); now != relay {
			t.Fatalf("the path was pid %d's, and is pid %d's", relay, now)
		}
	}

	if err := other.Stop(eventuallyTime); err != nil {
		t.Error(err)
	}
	a.taken(n.cri, relay)
	a.told(n.cri, func() error { return nil })
	l.end()
}

// TestAgentBesideAService: a relay that stands already, and is no agent's, as that of
// deploy/systemd, is a service's own to upgrade: it stays, and the agent is its tap. Once
// it has ended, the agent has one of its own.
func TestAgentBesideAService(t *testing.T) {
	n := newFakeNode(t)
	service := stand(t, n.cri)
	relay := by(t, n.cri)
	a := onAgent(t, n)
	l := runtimeTraffic(t, n.cri)
	a.starts()
	a.stands(n.cri)
	a.told(n.cri, func() error { return nil })
	// Sockets are looked at in one round: the second round after it has looked at the first.
	a.stands(a.driver("first.csi.test"))
	a.stands(a.driver("second.csi.test"))
	if now := by(t, n.cri); now != relay {
		t.Fatalf("the path was pid %d's, and is pid %d's", relay, now)
	}

	if err := service.Stop(eventuallyTime); err != nil {
		t.Error(err)
	}
	a.Until("a relay of its own stands", eventuallyTime, func() bool { pid := by(t, n.cri); return pid != 0 && pid != relay })
	a.told(n.cri, func() error { return nil })
	l.end()
}
