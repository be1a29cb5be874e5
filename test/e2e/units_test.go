package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// The tests named TestUnits… run the units of deploy/systemd, as they are, under a
// systemd of the lab's own.

const unitsDir = "../../deploy/systemd"

// The units of the socket that unitsNode serves.
const (
	guardUnit   = "grpc-tap-guard.service"
	relayUnit   = "grpc-tap-relay@run-containerd-containerd.sock.service"
	tapUnit     = "grpc-tap-tap@run-containerd-containerd.sock.service"
	swapUnit    = "grpc-tap-swap@run-containerd-containerd.sock.service"
	swapTapUnit = `grpc-tap-tap@run-grpc\x2dtap-run-containerd-containerd.sock.service`
)

// How the units differ from a node's: a system call that their filter forbids kills who
// makes it, for all to see, and the calls are told.
const (
	inTheLab  = "[Service]\nSystemCallErrorNumber=\n"
	tellsThem = "[Service]\nStandardOutput=append:/run/records\n"
)

// unitsNode is a node with a runtime, the units, and what they are installed with.
type unitsNode struct {
	*lab.Systemd
	served // where the runtime listens: /run/containerd/containerd.sock to the units
	swap   string
	was    place

	t   *testing.T
	lab *lab.Lab
}

// onUnits runs a test on a node with a fake runtime and on one with containerd.
func onUnits(t *testing.T, test func(t *testing.T, n *unitsNode)) {
	t.Run("fakes", func(t *testing.T) { test(t, newUnitsNode(t)) })
	t.Run("containerd", func(t *testing.T) {
		l := lab.New(t)
		r := l.Containerd(lab.Options{Socket: "run/containerd/containerd.sock"})
		test(t, unitsOn(t, l, served{path: r.Socket, pid: r.PID(), events: containerdEvents}))
	})
}

// newUnitsNode is one with a fake runtime.
func newUnitsNode(t *testing.T) *unitsNode {
	t.Helper()
	l := lab.New(t)
	path := l.Path("run/containerd/containerd.sock")
	mkdir(t, filepath.Dir(path))
	r := fakecri.NewRuntime()
	r.AddPods(110)
	if err := r.Start(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return unitsOn(t, l, served{path: path, events: containerEvents})
}

func unitsOn(t *testing.T, l *lab.Lab, s served) *unitsNode {
	t.Helper()
	n := &unitsNode{served: s, swap: l.Path("run/grpc-tap/run/containerd/containerd.sock"), was: lookAt(t, s.path), t: t, lab: l}
	mkdir(t, l.Path("run"))
	n.install()
	if _, err := l.Run("systemd-tmpfiles", "--create", "--root="+l.Dir, unitsTmpfiles(t)); err != nil {
		t.Fatal(err)
	}
	l.Write("units/grpc-tap-tap@.service.d/30-tells.conf", tellsThem)
	l.Write("etc/grpc-tap/tap.env", "GRPC_TAP_TAP=-o json\n")
	n.Systemd = l.Systemd(unitsDir, inTheLab)
	return n
}

func unitsTmpfiles(t testing.TB) string {
	t.Helper()
	conf, err := filepath.Abs(filepath.Join(unitsDir, "tmpfiles.d/grpc-tap.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

// install puts grpc-tap's binary in place, as a new file: an upgrade.
func (n *unitsNode) install() {
	n.t.Helper()
	b, err := os.ReadFile(binary)
	path := n.lab.Path("bin/grpc-tap")
	mkdir(n.t, filepath.Dir(path))
	if err = errors.Join(err, os.WriteFile(path+".new", b, 0o755), os.Rename(path+".new", path)); err != nil {
		n.t.Fatal(err)
	}
}

// start starts a relay's unit, and waits until its tap reads. It is stopped with the test.
func (n *unitsNode) start(unit, path string) *Tap {
	n.t.Helper()
	n.Do("start", unit)
	n.t.Cleanup(func() { n.Do("stop", unit) })
	own := *n.Process
	own.Name, own.Stdout, own.Stderr = unit, n.lab.Path("run/records"), n.lab.Path("run/units.log")
	p := &Tap{Process: &own, Listen: path, Tells: true, t: n.t, lab: n.lab, stopped: true}
	p.Until("its tap reads", eventuallyTime, func() bool { return onPath.MatchString(n.Log()) })
	return p
}

// again waits until a service has another process than before, and runs.
func (n *unitsNode) again(unit string, before int) (pid int) {
	n.t.Helper()
	n.Until(unit+" runs again", eventuallyTime, func() bool {
		pid = n.MainPID(unit)
		return pid != 0 && pid != before && n.Show(unit, "ActiveState") == "active"
	})
	return pid
}

// forget is doctor --reset: this test may kill relays as often as it likes.
func (n *unitsNode) forget() { _ = os.Remove(n.lab.Path("run/grpc-tap/deaths")) }

func (n *unitsNode) isBack() {
	n.t.Helper()
	if now := lookAt(n.t, n.path); now != n.was {
		n.t.Errorf("%s was %+v, and is %+v", n.path, n.was, now)
	}
}

// TestUnitsRelayKilled kills all of the relay's service: the guard's gives the path back,
// the service is started again, its tap is with it, and only calls in flight are cut.
func TestUnitsRelayKilled(t *testing.T) {
	onUnits(t, func(t *testing.T, n *unitsNode) {
		p := n.start(relayUnit, n.path)
		l := runtimeTraffic(t, n.path)
		faithful(t, l, n.path)
		decodedAgain(p, time.Now())
		for range rounds(2, 20) {
			n.forget()
			l.fine()
			before := n.MainPID(relayUnit)
			n.Do("kill", "--signal=SIGKILL", relayUnit)
			killed := time.Now()
			back := awaitBack(t, n.path, n.was.Inode)
			l.more(20)
			n.again(relayUnit, before)
			p.Until("the path is taken again", eventuallyTime, func() bool { return lookAt(t, n.path).Inode != n.was.Inode })
			faithful(t, l, n.path) // who was cut has dialled the server itself
			decodedAgain(p, time.Now())
			cut := onlyInFlight(t, l, back)
			if t.Logf("path back after %v, %d calls cut", back.Sub(killed), cut); t.Failed() {
				t.FailNow()
			}
		}
		n.Do("stop", relayUnit)
		l.more(20)
		l.end()
		n.isBack()
	})
}

// TestUnitsGuardKilled kills the guard's service, and restarts it: the relay calls on the
// next one, which is as good, and no call fails. At the third, something is wrong: the
// relay gives its path back and ends, still without a failed call, and is started again.
func TestUnitsGuardKilled(t *testing.T) {
	onUnits(t, func(t *testing.T, n *unitsNode) {
		p := n.start(relayUnit, n.path)
		l := runtimeTraffic(t, n.path)
		faithful(t, l, n.path)
		decodedAgain(p, time.Now())
		before, relay := n.MainPID(guardUnit), n.MainPID(relayUnit)
		for i, how := range [][]string{{"kill", "--signal=SIGKILL", guardUnit}, {"restart", guardUnit}} {
			n.Do(how...)
			before = n.again(guardUnit, before)
			p.Until("the relay has another guard", eventuallyTime, func() bool {
				return strings.Count(n.Log(), "the guard died, and another has taken its place") == i+1
			})
		}
		l.more(50)
		l.fine()
		if now := n.MainPID(relayUnit); now != relay {
			t.Errorf("the relay was pid %d and is %d", relay, now)
		}
		n.Do("kill", "--signal=SIGKILL", guardUnit)
		relay = n.again(relayUnit, relay)
		p.Until("the path is taken again", eventuallyTime, func() bool { return lookAt(t, n.path).Inode != n.was.Inode })
		l.more(50)
		l.fine()
		n.Do("kill", "--signal=SIGKILL", relayUnit)
		back := awaitBack(t, n.path, n.was.Inode)
		l.more(20)
		onlyInFlight(t, l, back)
		n.again(relayUnit, relay)
		l.end()
	})
}

// TestUnitsReload upgrades the binary and reloads, again and again: the service goes on
// with a process of the new file, no call fails, and the clients are seen again.
func TestUnitsReload(t *testing.T) {
	onUnits(t, func(t *testing.T, n *unitsNode) {
		p := n.start(relayUnit, n.path)
		l := runtimeTraffic(t, n.path)
		faithful(t, l, n.path)
		decodedAgain(p, time.Now())
		var took []time.Duration
		for range rounds(4, 100) {
			old := n.MainPID(relayUnit)
			n.install()
			n.Do("reload", relayUnit)
			pid := n.again(relayUnit, old)
			took = append(took, decodedAgain(p, time.Now()))
			runs, rerr := os.Stat("/proc/" + strconv.Itoa(pid) + "/exe")
			file, ferr := os.Stat(n.lab.Path("bin/grpc-tap"))
			if rerr != nil || ferr != nil || !os.SameFile(runs, file) {
				t.Errorf("pid %d does not run the new file: %v, %v", pid, rerr, ferr)
			}
			if parent := parentOf(pid); parent != n.PID() {
				t.Errorf("pid %d is the child of %d, not of systemd: who hears of its death?", pid, parent)
			}
			eventually(t, "the old one ends", func() bool { return !ours(old) })
			if l.fine(); t.Failed() {
				t.FailNow()
			}
		}
		if n.Show(relayUnit, "NRestarts") != "0" {
			t.Error("it was started again")
		}
		n.Do("stop", relayUnit)
		l.more(20)
		l.end()
		n.isBack()
		t.Logf("%d reloads, %d calls, none failed; decoded again after %v at most", len(took), l.done.Load(), slices.Max(took))
	})
}

func parentOf(pid int) (parent int) {
	stat, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if _, after, ok := strings.Cut(string(stat), ") "); ok {
		if f := strings.Fields(after); len(f) > 1 {
			parent, _ = strconv.Atoi(f[1])
		}
	}
	return parent
}
