package e2e

import (
	"strings"
	"testing"
)

// TestAgentSettingsNotHad: settings that are right but can't be had on this node are said,
// and the agent goes on with those before; also with the next that can be. At its start
// they are its end.
func TestAgentSettingsNotHad(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n, "metricsListen: 127.0.0.1:0")
	a.starts()
	a.stands(n.cri)
	for setting, says := range map[string]string{
		"metricsListen: 203.0.113.1:9464": "--metrics-listen 203.0.113.1:9464: listen tcp 203.0.113.1:9464: bind: cannot assign requested address; give another address",
		"descriptorSet: /no/such":         "descriptor set /no/such: no such file or directory",
	} {
		a.settings(setting)
		a.Until("it says what can't be had", eventuallyTime, func() bool {
			_, after, said := strings.Cut(a.Said(), "what "+a.config+" says now can't be had: "+says)
			return said && strings.Contains(after, "; going on with what it said before\n") && strings.Contains(after, "on "+n.cri+", relayed by pid")
		})
		a.told(n.cri, func() error { return version(n.cri) })
	}
	a.settings("payload: none")
	said := len(a.Said())
	a.Until("the next are taken", eventuallyTime, func() bool { return strings.Contains(a.Said()[said:], "on "+n.cri+", relayed by pid") })
	a.told(n.cri, func() error { return version(n.cri) })

	a.leave()
	a.settings("metricsListen: 203.0.113.1:9464")
	a.starts()
	<-a.Done()
	a.stopped = true
	if !strings.Contains(a.Said(), "cannot assign requested address") {
		t.Errorf("it said:\n%s", a.Said())
	}
}
