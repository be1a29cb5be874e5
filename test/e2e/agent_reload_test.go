package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
)

// TestAgentSettings: another file of settings is gone on with, one with a mistake is
// not, and what is denied from then on is given back in time.
func TestAgentSettings(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n)
	first, second := a.driver("first.csi.test"), a.driver("second.csi.test")
	a.starts()
	for _, path := range []string{n.cri, first, second} {
		a.stands(path)
	}
	a.settings("denyy: [second*]", "payload: some")
	a.says("is not taken: ", `there is no setting "denyy"`)
	a.told(second, func() error { return probe(second) })

	a.settings("deny: [second*]")
	a.says("has changed: going on")
	a.gone(second)
	a.told(first, func() error { return probe(first) })
	a.told(n.cri, func() error { return version(n.cri) })
	if err := probe(second); err != nil {
		t.Error(err)
	}
}

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
	a.fails("cannot assign requested address")
}

// TestAgentRelaySettings: what a relay was told is changed by another that takes its place,
// without a failed call.
func TestAgentRelaySettings(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n)
	a.relaySettings(n)
}

// TestAgentUnitSettings: the same of transient units, whose names must differ for that.
func TestAgentUnitSettings(t *testing.T) {
	n := newFakeNode(t)
	a, _ := onSystemd(t, n)
	a.relaySettings(n)
}

func (a *agent) relaySettings(n *fakeNode) {
	a.t.Helper()
	l := runtimeTraffic(a.t, n.cri)
	a.starts()
	a.stands(n.cri)
	l.more(20)
	told := func(flag string) string { return a.relayTold(n.cri, flag) }
	old := by(a.t, n.cri)
	if was := told("--orphan-timeout"); was != "3s" {
		a.t.Fatalf("the relay was told %q", was)
	}
	a.rewrite("orphanTimeout: 3s", "orphanTimeout: 4s")
	a.Until("a relay stands that was told the new one", eventuallyTime, func() bool { return told("--orphan-timeout") == "4s" })
	a.told(n.cri, func() error { return nil })
	eventually(a.t, "the old one has ended", func() bool { return unix.Kill(old, 0) != nil })

	a.rewrite("stateDir: "+a.path("state"), "stateDir: "+a.path("state2"))
	a.Until("a relay stands that watches the new kill switch", eventuallyTime, func() bool { return told("--state-dir") == a.path("state2") })
	a.told(n.cri, func() error { return nil })
	l.end()
}

// relayTold is what the relay on a path was told by a flag.
func (a *agent) relayTold(path, flag string) string {
	args := argv(by(a.t, path))
	if i := slices.Index(args, flag); i > 0 {
		return args[i+1]
	}
	return ""
}

// TestAgentUnitSettingsBack: settings are taken back while the relay that had them first
// still carries a connection, which does not pass us by for that. It does not come back for
// the path either.
func TestAgentUnitSettingsBack(t *testing.T) {
	n := newFakeNode(t)
	a, s := onSystemd(t, n, "metricsListen: 127.0.0.1:0")
	driver := a.driver("held.csi.test")
	a.starts()
	a.stands(driver)
	first := by(t, driver)
	sidecar, err := dial(driver)
	if err != nil {
		t.Fatal(err)
	}
	defer sidecar.Close()
	probes := func() {
		t.Helper()
		if _, err := csi.NewIdentityClient(sidecar).Probe(t.Context(), &csi.ProbeRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, change := range [][2]string{{"3s", "4s"}, {"4s", "3s"}} {
		probes()
		a.rewrite("orphanTimeout: "+change[0], "orphanTimeout: "+change[1])
		a.Until("a relay stands that was told "+change[1], 2*eventuallyTime, func() bool { return a.relayTold(driver, "--orphan-timeout") == change[1] })
	}
	probes()
	last := by(t, driver)
	if last == first || unix.Kill(first, 0) != nil {
		t.Fatal("the first relay carries no connection")
	}
	if n := pageOf(a.Tap).value("grpc_tap_connections", "state", "bypassed"); n != 0 {
		t.Errorf("%v connections pass by", n)
	}

	// Killed now, it is started again, and leaves the path to the last one.
	units := func() int {
		out, err := s.Ctl("list-units", "--plain", "--no-legend", "grpc-tap-*held*")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(out, "\n")
	}
	had := units()
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its unit has ended", func() bool { return units() < had || by(t, driver) != last })
	if now := by(t, driver); now != last {
		t.Errorf("the path was pid %d's, and is pid %d's", last, now)
	}
	a.told(driver, func() error { return probe(driver) })
}
