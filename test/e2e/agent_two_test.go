package e2e

import (
	"strings"
	"testing"
	"time"
)

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
	other.Until("a relay of its own stands", eventuallyTime, func() bool { pid := by(t, n.cri); return pid != 0 && pid != old })
	a.Until("the older one is superseded", eventuallyTime, func() bool {
		return strings.Contains(a.Said(), "another grpc-tap reads "+n.cri+" now")
	})
	relay := by(t, n.cri)
	for began := time.Now(); time.Since(began) < 25*time.Second; l.more(20) { // a relay may be started again after 15
		if now := by(t, n.cri); now != relay {
			t.Fatalf("the path was pid %d's, and is pid %d's", relay, now)
		}
	}

	if err := other.Stop(eventuallyTime); err != nil {
		t.Error(err)
	}
	a.Until("the older one has a relay of its own again", eventuallyTime, func() bool { pid := by(t, n.cri); return pid != 0 && pid != relay })
	a.told(n.cri, func() error { return nil })
	l.end()
}
