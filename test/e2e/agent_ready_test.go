package e2e

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// not waits until the agent is not ready, and says this.
func (a *agent) not(page *page, text string) {
	a.t.Helper()
	a.Until("it is not ready: "+text, eventuallyTime, func() bool {
		code, ready := page.get("/readyz", "")
		return code == http.StatusServiceUnavailable && strings.Contains(ready, text)
	})
}

// ready waits until the agent is ready.
func (a *agent) ready(page *page) {
	a.t.Helper()
	a.Until("it is ready", 2*eventuallyTime, func() bool {
		code, _ := page.get("/readyz", "")
		return code == http.StatusOK
	})
}

// TestAgentNotReadyWith: what keeps the agent from doing as it was told, though every relay
// that stands is read, is seen by who looks at the DaemonSet, and goes by itself.
func TestAgentNotReadyWith(t *testing.T) {
	t.Run("settings that are refused", func(t *testing.T) {
		n := newFakeNode(t)
		a := onAgent(t, n, "metricsListen: 127.0.0.1:0")
		a.starts()
		page := pageOf(a.Tap)
		a.ready(page)
		a.settings("metricsListen: 127.0.0.1:0", "otlpEndpiont: x:4317")
		a.not(page, `there is no setting "otlpEndpiont"`)
		said := len(a.Said())
		a.settings("metricsListen: 127.0.0.1:0")
		a.Until("the settings before are taken again", eventuallyTime, func() bool { return strings.Contains(a.Said()[said:], "on "+n.cri+", relayed by pid") })
	})
	t.Run("a runtime that is not there", func(t *testing.T) {
		n := newFakeNode(t)
		a := onAgent(t, n, "metricsListen: 127.0.0.1:0")
		where := n.cri
		n.cri += ".else"
		a.settings("metricsListen: 127.0.0.1:0")
		n.cri = where
		a.starts()
		a.not(pageOf(a.Tap), n.cri+".else: no runtime is found there")
	})
	t.Run("the kill switch, again and again", func(t *testing.T) {
		n := newFakeNode(t)
		a := onAgent(t, n, "metricsListen: 127.0.0.1:0")
		a.starts()
		page := pageOf(a.Tap)
		for range 2 {
			a.ready(page)
			said := len(a.Said())
			if err := os.WriteFile(a.path("state/disable"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			a.not(page, a.path("state/disable")+" exists")
			if !strings.Contains(a.Said()[said:], a.path("state/disable")+" exists") {
				t.Errorf("its log does not say it:\n%s", a.Said()[said:])
			}
			if err := os.Remove(a.path("state/disable")); err != nil {
				t.Fatal(err)
			}
		}
		a.ready(page)
	})
}

// TestAgentWithoutHostPID: where pid 1 is the agent itself, its container is not taken for
// the node.
func TestAgentWithoutHostPID(t *testing.T) {
	if binary == "" {
		t.Skip("socat is no agent")
	}
	out, err := lab.New(t).Run("timeout", "20", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", binary, "agent", "--runtime", "none", "--state-dir", t.TempDir())
	if strings.Contains(out, "unshare failed") {
		t.Skip("needs pid namespaces: ", out)
	}
	if err == nil || !strings.Contains(out, "the node can't be reached from here") || !strings.Contains(out, "hostPID: true") {
		t.Errorf("%v: %s", err, out)
	}
}
