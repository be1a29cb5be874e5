package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// TestUnitsReloadWaiting reloads a relay that waits for a tap: its place is taken at once,
// and the service must not be taken for one that has ended.
func TestUnitsReloadWaiting(t *testing.T) {
	n := newUnitsNode(t)
	if err := os.Remove(filepath.Join(n.Units, "grpc-tap-tap@.service")); err != nil {
		t.Fatal(err)
	}
	n.Do("start", relayUnit) // ready after ten seconds, tap or no tap
	t.Cleanup(func() { n.Do("stop", relayUnit) })
	for range 3 {
		old := n.MainPID(relayUnit)
		n.Do("reload", relayUnit)
		n.again(relayUnit, old)
		eventually(t, "the old one ends", func() bool { return !ours(old) })
	}
	if s, r := n.Show(relayUnit, "SubState"), n.Show(relayUnit, "NRestarts"); s != "running" || r != "0" {
		t.Errorf("%s after %s restarts:\n%s", s, r, n.Log())
	}
}

// TestUnitsBothKilled kills relay and guard at once: the service manager restores.
func TestUnitsBothKilled(t *testing.T) {
	for _, c := range []struct{ unit, name string }{{relayUnit, "in use"}, {swapUnit, "of its own"}} {
		t.Run(c.name, func(t *testing.T) {
			n := newUnitsNode(t)
			// It must be what gives the path back, not a relay's next start.
			n.lab.Write("units/"+c.unit+".d/30-once.conf", "[Service]\nRestart=no\n")
			n.Do("daemon-reload")
			path := n.path
			if c.unit == swapUnit {
				path = n.swap
			}
			was := lookAt(t, path)
			p := n.start(c.unit, path)
			dialled := fmt.Sprintf("/proc/%d/root%s", n.PID(), strings.TrimPrefix(path, n.lab.Dir))
			answers(t, dialled)
			// Neither runs any more by the time that they die.
			stop(t, n.MainPID(c.unit))
			stop(t, n.MainPID(guardUnit))
			n.Do("kill", "--signal=SIGKILL", c.unit, guardUnit)
			p.Until("systemd gives the path back", eventuallyTime, func() bool { return lookAt(t, path).Inode == was.Inode })
			n.Until("its state is told", eventuallyTime, func() bool { return n.Show(c.unit, "ActiveState") == "failed" })
			answers(t, dialled)
			if now := lookAt(t, path); now != was {
				t.Errorf("%s was %+v, and is %+v", path, was, now)
			}
		})
	}
}

// TestUnitsSwap is of a path of grpc-tap's own, from boot on: it answers before any relay
// runs, while one does, when it is stopped and when it is killed.
func TestUnitsSwap(t *testing.T) {
	onUnits(t, func(t *testing.T, n *unitsNode) {
		isLink := func(when string) {
			t.Helper()
			if to, err := os.Readlink(n.swap); err != nil || to != "/run/containerd/containerd.sock" {
				t.Errorf("%s the path leads to %q (%v)", when, to, err)
			}
		}
		isLink("before any relay runs")
		dialled := fmt.Sprintf("/proc/%d/root/run/grpc-tap/run/containerd/containerd.sock", n.PID())
		answers(t, dialled)
		p := n.start(swapUnit, n.swap)
		l := runtimeTraffic(t, dialled)
		faithful(t, l, dialled)
		decodedAgain(p, time.Now())
		old := n.MainPID(swapUnit)
		n.Do("reload", swapUnit)
		first := old
		old = n.again(swapUnit, old)
		decodedAgain(p, time.Now())
		l.fine()
		// Or the kill is of two, one after the other, and the path may be back in between.
		eventually(t, "the old relay has ended", func() bool { return !ours(first) })

		n.Do("kill", "--signal=SIGKILL", swapUnit)
		n.Until("the path is a link", eventuallyTime, func() bool { _, err := os.Readlink(n.swap); return err == nil })
		back := time.Now()
		answers(t, dialled)
		l.more(20)
		n.again(swapUnit, old)
		p.Until("the path is taken again", eventuallyTime, func() bool { _, err := os.Readlink(n.swap); return err != nil })
		faithful(t, l, dialled) // who was cut has dialled the runtime itself
		decodedAgain(p, time.Now())
		onlyInFlight(t, l, back)

		n.Do("stop", swapUnit)
		isLink("after the stop")
		answers(t, dialled)
		l.more(20)
		l.end()
		n.Do("stop", guardUnit, swapTapUnit)
		answers(t, dialled)
	})
}

// TestUnitsDisabled uses the kill switch: the service ends well, and does not come back.
func TestUnitsDisabled(t *testing.T) {
	n := newUnitsNode(t)
	n.start(relayUnit, n.path)
	l := runtimeTraffic(t, n.path)
	l.more(20)
	disable := n.lab.Write("run/grpc-tap/disable", "")
	n.Until("the relay ends", eventuallyTime, func() bool { return n.Show(relayUnit, "ActiveState") == "inactive" })
	n.isBack()
	n.Do("start", relayUnit)
	if s, c := n.Show(relayUnit, "ActiveState"), n.Show(relayUnit, "ConditionResult"); s != "inactive" || c != "no" {
		t.Errorf("it is %s, its condition %s", s, c)
	}
	if err := os.Remove(disable); err != nil {
		t.Fatal(err)
	}
	n.Do("start", relayUnit)
	l.more(20)
	n.Do("stop", relayUnit)
	l.end()
	n.isBack()
}

// TestUnitsForeignOwner is of a server that is not root, and whose socket is its own
// alone: the capabilities are for that.
func TestUnitsForeignOwner(t *testing.T) {
	n := newUnitsNode(t)
	if err := errors.Join(os.Chown(n.path, 1234, 1234), os.Chmod(n.path, 0o600)); err != nil {
		t.Fatal(err)
	}
	n.was = lookAt(t, n.path)
	n.start(relayUnit, n.path)
	now := lookAt(t, n.path)
	if now.Inode == n.was.Inode || now.UID != 1234 || now.GID != 1234 || now.Mode != n.was.Mode {
		t.Errorf("the path was %+v, and is %+v", n.was, now)
	}
	answers(t, n.path)
	n.Do("kill", "--signal=SIGKILL", relayUnit)
	awaitBack(t, n.path, n.was.Inode)
	answers(t, n.path)
	n.Do("stop", relayUnit)
	eventually(t, "nothing is left", func() bool { return lookAt(t, n.path) == n.was })
}

// TestUnitsDriver is of a CSI driver's socket, whose clients may exit when their connection
// ends: with the settings for that they keep it over a reload, and the old process stays.
func TestUnitsDriver(t *testing.T) {
	n := newUnitsNode(t)
	const inside = "/var/lib/kubelet/plugins/nfs-x.example.com/csi.sock"
	path := n.lab.Path(inside)
	mkdir(t, filepath.Dir(path))
	d := fakecri.NewDriver()
	if err := d.Start(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	escaped, err := n.lab.Run("systemd-escape", "--path", inside)
	if err != nil {
		t.Fatal(err)
	}
	escaped = strings.TrimSpace(escaped)
	n.lab.Write("etc/grpc-tap/relay"+inside+".env", "GRPC_TAP_RELAY=--keep-clients --drain 0\n")
	unit := "grpc-tap-relay@" + escaped + ".service"
	n.start(unit, path)

	sidecar, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer sidecar.Close()
	probe := func(via *grpc.ClientConn) {
		t.Helper()
		if _, err := csi.NewIdentityClient(via).Probe(t.Context(), &csi.ProbeRequest{}); err != nil {
			t.Error(err)
		}
	}
	probe(sidecar)
	l := driverTraffic(t, path)
	old := n.MainPID(unit)
	n.Do("reload", unit)
	n.again(unit, old)
	l.more(50)
	probe(sidecar)
	if !ours(old) || sidecar.GetState() != connectivity.Ready {
		t.Errorf("the sidecar's connection is %v, the process that has it runs: %v", sidecar.GetState(), ours(old))
	}
	sidecar.Close()
	eventually(t, "the old one ends", func() bool { return !ours(old) })
	n.Do("stop", unit)
	l.more(20)
	l.end()
}

// TestUnitsHoldNoMounts holds that what is mounted on the host is not held busy by the
// services' mount namespaces, though it was there before them: it is unmounted in all.
func TestUnitsHoldNoMounts(t *testing.T) {
	n := newUnitsNode(t)
	volume := func(name string) string {
		mkdir(t, n.lab.Path("run/containerd", name))
		n.Inside(t, "mount", "-t", "tmpfs", "tmpfs", "/run/containerd/"+name)
		return "/run/containerd/" + name
	}
	before := volume("before")
	n.start(relayUnit, n.path)
	after := volume("after")
	holds := func(unit, at string) bool {
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", n.MainPID(unit)))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(mounts), " "+at+" ")
	}
	all := []string{guardUnit, relayUnit, tapUnit}
	for _, unit := range all {
		if !holds(unit, before) {
			t.Errorf("%s does not follow the host's mounts, so that this shows nothing", unit)
		}
	}
	n.Inside(t, "umount", before)
	n.Inside(t, "umount", after)
	for _, unit := range all {
		for _, at := range []string{before, after} {
			if holds(unit, at) {
				t.Errorf("%s holds %s, which the host has unmounted", unit, at)
			}
		}
	}
}
