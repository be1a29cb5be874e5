package e2e

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestAttachGuardKilled kills the guard: the relay starts another, which is as
// good, and no call fails.
func TestAttachGuardKilled(t *testing.T) { onServers(t, attachGuardKilled) }

func attachGuardKilled(t *testing.T, s served) {
	a := attach(t, s.path)
	l := runtimeTraffic(t, s.path)
	l.more(50)
	a.kill(a.guard, unix.SIGKILL)
	a.guarded(l)
}

// guarded holds that another guard has taken the place of one that died, without a
// failed call, and is as good.
func (a *attached) guarded(l *load) {
	t := a.t
	t.Helper()
	l.more(50)
	l.fine()
	a.says("the guard died, and another has taken its place")
	a.guard = childOf(a.relay, "guard")
	a.kill(a.relay, unix.SIGKILL)
	back := awaitBack(t, a.Listen, a.was.Inode)
	a.fails()
	a.isBack()
	l.more(50)
	onlyInFlight(t, l, back)
	l.end()
}

// TestAttachGuardStopped stops the guard: it is missed, ended, and another is as
// good.
func TestAttachGuardStopped(t *testing.T) {
	n := newFakeNode(t)
	a := attach(t, n.cri)
	l := runtimeTraffic(t, n.cri)
	a.kill(a.guard, unix.SIGSTOP)
	a.guarded(l)
}
