//go:build kubelet

package e2e

import (
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestKubeletLiveAttach moves the connections of a kubelet that runs, again and
// again: it sees no failure, keeps its pods, and is seen without a restart.
func TestKubeletLiveAttach(t *testing.T) {
	notSocat(t, "attaches to nothing")
	l := newKubeletLife(t, func(r *lab.Runtime) string { return r.Socket })
	first := l.run(lab.Pod{Name: "first"})
	direct := l.failures()
	moved, sessions, told := 0, 0, false
	for want := rounds(4, 200); moved < want || !told; sessions++ {
		restless(t, sessions, 5*want)
		a := attach(t, l.r.Socket, "--live-attach")
		n := a.decided()
		if !strings.Contains(a.Said(), "not moved") {
			a.Wait("a poll of the kubelet's", func(r Record) bool { return r.Method == "ListPodSandbox" && r.Caller.PID == l.PID() })
			if !told {
				second := l.run(lab.Pod{Name: "second"})
				l.checkTold(a.Tap, second, "RunPodSandbox", "CreateContainer", "StartContainer")
				told = true
			}
		}
		l.checkOwnWords(a.Records(), direct)
		a.detach()
		moved += n
		if t.Failed() {
			t.Fatalf("it said:\n%s", a.Said())
		}
	}
	if sandbox, container := l.Running(first.Pod); sandbox != first.sandbox || container != first.container {
		t.Errorf("pod first was started anew: it was %s in %s, and is %s in %s", first.container, first.sandbox, container, sandbox)
	}
	l.checkFailures(direct)
	t.Logf("%d connections of the kubelet's moved in %d sessions", moved, sessions)
}
