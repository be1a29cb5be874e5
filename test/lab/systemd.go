package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Systemd is a service manager of the lab's own: not a stand-in, but systemd, as one that
// is not the machine's first process can run (--user, as root), in a mount namespace
// where /run is the lab's, and in a cgroup of the lab's. It does with a unit's service
// what it does on a node: sandbox, notifications, restarts, kills. It has no target but
// those of no content, and bounds memory only where the machine lets it.
type Systemd struct {
	*Process
	// Units is the only directory that it reads units from.
	Units string

	lab *Lab
}

const systemd = "/lib/systemd/systemd"

// manager becomes systemd. What other labs have mounted is not to be held busy by it.
const manager = `set -e
echo $$ >"$CGROUP/cgroup.procs"
exec unshare --mount --cgroup sh -ec '
mount --make-rslave /
awk "\$5 ~ \"^/tmp/gtlab-\" {print \$5}" /proc/self/mountinfo | tac | xargs -r -n1 umount -l 2>/dev/null || true # some go by themselves
mount --bind "$LAB/run" /run
mount --bind "$LAB/bin" /usr/local/bin
mount --bind "$LAB/var/lib" /var/lib
mount -t overlay -o lowerdir="$LAB/etc:/etc" overlay /etc
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared /
exec env -i GRPC_TAP_LAB="$LAB" PATH="$PATH" XDG_RUNTIME_DIR=/run SYSTEMD_UNIT_PATH="$LAB/units" \
	` + systemd + ` --user --unit=basic.target --log-target=console'`

// Systemd starts a systemd in the lab. Of the lab's directory, run and var/lib are what
// they are called to its services, bin is /usr/local/bin, and what is in etc is beside what
// the machine has there. What the services write goes to run/units.log. The units are
// copies of those in from, with the drop-in for each, if it is not empty.
func (l *Lab) Systemd(from, dropIn string) *Systemd {
	t := l.t
	t.Helper()
	needPrivileges(t)
	needFile(t, systemd)
	s := &Systemd{Units: l.Path("units"), lab: l}
	l.Write("units/service.d/10-log.conf", "[Service]\nStandardOutput=append:/run/units.log\nStandardError=append:/run/units.log\n")
	if dropIn != "" {
		l.Write("units/service.d/20-lab.conf", dropIn)
	}
	for _, name := range []string{"basic", "shutdown"} {
		l.Write("units/"+name+".target", "[Unit]\nDefaultDependencies=no\n")
	}
	units, err := filepath.Glob(filepath.Join(from, "*.service"))
	if err != nil || len(units) == 0 {
		t.Fatalf("lab: no units in %s: %v", from, err)
	}
	for _, file := range units {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("lab: %v", err)
		}
		l.Write("units/"+filepath.Base(file), string(b))
	}
	// By run/systemd/system it takes the machine for one that systemd has booted.
	for _, dir := range []string{"run/systemd/system", "bin", "etc", "var/lib"} {
		if err := os.MkdirAll(l.Path(dir), 0o755); err != nil {
			t.Fatalf("lab: %v", err)
		}
	}
	s.Process = l.Start("systemd", []string{"LAB=" + l.Dir, "CGROUP=" + l.cgroup2()}, "sh", "-c", manager)
	s.Until("it answers", 30*time.Second, func() bool {
		_, err := s.Ctl("show", "--property=Version")
		return err == nil
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("its services said:\n%s", s.Log())
		}
		s.Kill() // its services are the janitor's
	})
	return s
}

// cgroup2 makes a cgroup for the lab.
func (l *Lab) cgroup2() string {
	l.t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
			continue
		}
		dir := filepath.Join(root, filepath.Base(l.Dir))
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			l.t.Skipf("this machine cannot run it: no cgroup of our own: %v", err)
		}
		return dir
	}
	l.t.Skip("this machine cannot run it: no cgroup v2")
	return ""
}

// Ctl is systemctl.
func (s *Systemd) Ctl(args ...string) (string, error) {
	return s.lab.Run(append([]string{"env", "XDG_RUNTIME_DIR=" + s.lab.Path("run"), "systemctl", "--user", "--no-pager"}, args...)...)
}

// Do is systemctl where that is to succeed.
func (s *Systemd) Do(args ...string) {
	s.lab.t.Helper()
	if _, err := s.Ctl(args...); err != nil {
		s.lab.t.Fatalf("%v; its services said:\n%s", err, s.Log())
	}
}

// Show is a property of a unit.
func (s *Systemd) Show(unit, property string) string {
	s.lab.t.Helper()
	out, err := s.Ctl("show", "--value", "--property="+property, unit)
	if err != nil {
		s.lab.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// MainPID is a service's process; 0: it has none.
func (s *Systemd) MainPID(unit string) (pid int) {
	s.lab.t.Helper()
	_, _ = fmt.Sscan(s.Show(unit, "MainPID"), &pid)
	return pid
}

// Log is what the services have written.
func (s *Systemd) Log() string { return tail(s.lab.Path("run/units.log"), 64<<10) }

// Inside runs a program where the services' host is: it sees the machine as systemd does.
func (s *Systemd) Inside(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := s.lab.Run(append([]string{"nsenter", "--mount", "--target", fmt.Sprint(s.PID())}, argv...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
