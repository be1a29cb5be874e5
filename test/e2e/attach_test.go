package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// place is how a socket's path and its directory are.
type place struct {
	Inode    uint64
	Mode     uint32
	UID, GID uint32
	Names    string // in its directory, without log files
}

func lookAt(t testing.TB, path string) (p place) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == nil {
		p = place{Inode: st.Ino, Mode: st.Mode, UID: st.Uid, GID: st.Gid}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Type()&os.ModeSocket != 0 || strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	p.Names = strings.Join(names, " ")
	return p
}

// attached is a `grpc-tap attach` that runs.
type attached struct {
	*Tap
	relay, guard int
	state        string // its --state-dir
	was          place  // how the path was before
}

// attach starts `grpc-tap attach` on a path and waits until it is on it. It is
// stopped with the test, which fails if it does not end well.
func attach(t testing.TB, path string, args ...string) *attached {
	t.Helper()
	l := lab.New(t)
	a := &attached{Tap: &Tap{Listen: path, Tells: true, t: t, lab: l}, state: l.Path("state"), was: lookAt(t, path)}
	a.start(args...)
	t.Cleanup(a.detach)
	return a
}

func (a *attached) start(args ...string) {
	a.t.Helper()
	a.run(append([]string{binary, "attach", a.Listen, "-o", "json", "--state-dir", a.state}, args...)...)
}

// run starts a program that becomes grpc-tap attach.
func (a *attached) run(argv ...string) {
	a.t.Helper()
	a.Process = a.lab.Start("attach", nil, argv...)
	a.stopped = false
	a.Until("it is on its path", eventuallyTime, func() bool {
		m := onPath.FindStringSubmatch(a.Said())
		if m != nil {
			a.relay, _ = strconv.Atoi(m[1])
		}
		return m != nil
	})
	a.guard = childOf(a.relay, "guard")
}

var onPath = regexp.MustCompile(`grpc-tap: on \S+, relayed by pid (\d+)`)

// childOf is the process that another has started with this first argument.
func childOf(parent int, command string) (pid int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		stat, _ := os.ReadFile(dir + "/stat")
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		_, after, ok := bytes.Cut(stat, []byte(") "))
		if f := bytes.Fields(after); ok && len(f) > 1 && string(f[1]) == strconv.Itoa(parent) && bytes.Contains(cmdline, []byte("\x00"+command+"\x00")) {
			pid, _ = strconv.Atoi(filepath.Base(dir))
		}
	}
	return pid
}

// detach ends it by SIGTERM, and holds that it leaves nothing: its path as it
// was, nothing beside it, no process. Its clients must have hung up.
func (a *attached) detach() {
	a.t.Helper()
	if a.stopped {
		return
	}
	a.stopped = true
	if err := a.Process.Stop(eventuallyTime); err != nil {
		a.t.Errorf("grpc-tap attach, told to end by SIGTERM: %v; stderr:\n%s", err, a.Said())
	}
	a.isBack()
}

// isBack holds that the path is as it was and that nothing of ours runs.
func (a *attached) isBack() {
	a.t.Helper()
	a.processesEnd()
	if now := lookAt(a.t, a.Listen); now != a.was {
		a.t.Errorf("%s was %+v, and is %+v", a.Listen, a.was, now)
	}
}

// processesEnd waits for the end of relay and guard.
func (a *attached) processesEnd() {
	a.t.Helper()
	for _, pid := range []int{a.relay, a.guard} {
		for end := time.Now().Add(eventuallyTime); ours(pid); time.Sleep(2 * time.Millisecond) {
			if time.Now().After(end) {
				a.t.Errorf("process %d stays: %s", pid, procLine(pid))
				_ = unix.Kill(pid, unix.SIGKILL)
				break
			}
		}
	}
}

// ours says whether pid is a process of grpc-tap's that lives.
func ours(pid int) bool {
	line := procLine(pid)
	return pid != 0 && (strings.Contains(line, " relay ") || strings.Contains(line, " guard"))
}

func procLine(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))
}

// kill sends a signal to a process of ours.
func (a *attached) kill(pid int, s unix.Signal) {
	a.t.Helper()
	if !ours(pid) {
		a.t.Fatalf("there is no process %d of grpc-tap's to send %v to", pid, s)
	}
	if err := unix.Kill(pid, s); err != nil {
		a.t.Fatal(err)
	}
}

// fails waits for grpc-tap's own end, which is to be a failure, and returns
// what it said.
func (a *attached) fails() string {
	a.t.Helper()
	select {
	case <-a.Done():
	case <-time.After(eventuallyTime):
		a.t.Fatalf("grpc-tap attach does not end; stderr:\n%s", a.Said())
	}
	a.stopped = true
	if err := a.Process.Stop(time.Minute); err == nil || err.Error() != "exit status 1" {
		a.t.Errorf("grpc-tap attach ended with %v, not exit status 1", err)
	}
	return a.Said()
}

// tap starts grpc-tap with a command that ends by itself, and returns what it
// printed.
func tap(t testing.TB, args ...string) (string, error) {
	t.Helper()
	return lab.New(t).Run(append([]string{binary}, args...)...)
}
