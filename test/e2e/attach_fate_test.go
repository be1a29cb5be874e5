package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// hierarchy is a place where a test can make cgroups.
func hierarchy(t testing.TB) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup/freezer", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(dir + "/cgroup.procs"); err == nil {
			return dir
		}
	}
	t.Skip("needs cgroups")
	return ""
}

// TestAttachCgroupKilled kills the whole cgroup that attach was started in, as
// the end of a container or of a login session does: the guard is elsewhere.
func TestAttachCgroupKilled(t *testing.T) {
	cgroup := filepath.Join(hierarchy(t), "grpc-tap-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(cgroup, 0o755); err != nil {
		t.Skip("needs root: ", err)
	}
	t.Cleanup(func() {
		eventually(t, "the cgroup is empty", func() bool { return unix.Rmdir(cgroup) == nil })
	})
	n := newFakeNode(t)
	l := runtimeTraffic(t, n.cri)
	for range rounds(3, 50) {
		lab := lab.New(t)
		a := &attached{Tap: &Tap{Listen: n.cri, Tells: true, t: t, lab: lab}, state: lab.Path("state"), was: lookAt(t, n.cri)}
		a.run("sh", "-c", `echo $$ >`+cgroup+`/cgroup.procs; exec "$@"`, "sh", binary, "attach", n.cri, "-o", "json", "--state-dir", a.state)
		l.more(20)
		procs, err := os.ReadFile(cgroup + "/cgroup.procs")
		if err != nil {
			t.Fatal(err)
		}
		pids := strings.Fields(string(procs))
		for _, pid := range pids {
			if pid == strconv.Itoa(a.guard) {
				t.Fatalf("the guard (pid %s) is in the cgroup that attach was started in", pid)
			}
		}
		if len(pids) != 2 {
			t.Errorf("%d processes in the cgroup, not attach and its relay", len(pids))
		}
		for _, pid := range pids {
			n, _ := strconv.Atoi(pid)
			_ = unix.Kill(n, unix.SIGKILL)
		}
		a.stopped = true
		<-a.Done()
		back := awaitBack(t, n.cri, a.was.Inode)
		l.more(20)
		onlyInFlight(t, l, back)
		a.isBack()
		if t.Failed() {
			t.FailNow()
		}
	}
	l.end()
}

// TestAttachInAContainer is of a pid namespace that the server is not in, whose
// end would take relay and guard with it: attach refuses. Told --unguarded it
// goes on, and when the container's init is killed, restore mends it.
func TestAttachInAContainer(t *testing.T) {
	n := newFakeNode(t)
	was := lookAt(t, n.cri)
	lab := lab.New(t)
	state := lab.Path("state")
	contained := func(args ...string) []string {
		return append([]string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc", binary, "attach", n.cri, "-o", "json", "--state-dir", state}, args...)
	}
	out, err := lab.Run(contained()...)
	if err == nil || !strings.Contains(out, "pid namespace") || !strings.Contains(out, "--unguarded") {
		if strings.Contains(out, "unshare failed") {
			t.Skip("needs pid namespaces: ", out)
		}
		t.Fatalf("attach in a container: %v\n%s", err, out)
	}
	if now := lookAt(t, n.cri); now != was {
		t.Errorf("refused, and %s was %+v and is %+v", n.cri, was, now)
	}

	l := runtimeTraffic(t, n.cri)
	a := &attached{Tap: &Tap{Listen: n.cri, Tells: true, t: t, lab: lab}, state: state, was: was}
	a.run(contained("--unguarded")...)
	l.more(20)
	answers(t, n.cri)        // a client that dials anew has no pid there
	a.relay = relayOn(n.cri) // its pid there is another than here
	stop(t, a.relay)         // or it may be the quicker one
	a.stopped = true
	a.Process.Kill() // with --kill-child, the namespace's init dies too
	eventually(t, "the path is dead", func() bool { return connect(n.cri) == unix.ECONNREFUSED })
	if out, err := tap(t, "restore", n.cri); err != nil || !strings.Contains(out, "given back") {
		t.Errorf("restore: %v\n%s", err, out)
	}
	answers(t, n.cri)
	a.isBack()
	l.more(20)
	l.failures()
	l.more(20)
	l.end()
}

// relayOn is the relay that has taken a path over.
func relayOn(path string) int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if strings.Contains(procLine(pid), " relay --take "+path+" ") {
			return pid
		}
	}
	return 0
}

// TestAttachUnguarded kills the relay where there is no guard: attach itself
// gives the path back.
func TestAttachUnguarded(t *testing.T) {
	n := newFakeNode(t)
	a := attach(t, n.cri, "--unguarded")
	if a.guard != 0 {
		t.Errorf("there is a guard: %d", a.guard)
	}
	a.kill(a.relay, unix.SIGKILL)
	if said := a.fails(); !strings.Contains(said, "its path is given back") {
		t.Errorf("it is not said:\n%s", said)
	}
	answers(t, n.cri)
	a.isBack()
}

// TestAttachContainerKilled runs attach in a real container, as a DaemonSet or
// `kubectl debug node` would: privileged, with the host's pid namespace, on the
// socket of the very containerd that runs it. Its init is killed, and with it
// its cgroup, over the socket that is tapped: the path is back.
func TestAttachContainerKilled(t *testing.T) {
	r := lab.Containerd(t, lab.Options{})
	was := lookAt(t, r.Socket)
	state := r.Path("attach-state")
	bind := func(dir, options string) string {
		return fmt.Sprintf("type=bind,src=%s,dst=%s,options=rbind:%s", dir, dir, options)
	}
	id := filepath.Base(r.Dir)
	ctr := func(args ...string) (string, error) {
		return r.Run(append([]string{r.CTR, "--address", r.Socket, "--namespace", "k8s.io"}, args...)...)
	}
	out, err := ctr("run", "--detach", "--privileged", "--runc-root", r.Path("runc"), "--with-ns", fmt.Sprintf("pid:/proc/%d/ns/pid", os.Getpid()),
		"--mount", bind(r.Dir, "rw"), "--mount", bind(filepath.Dir(binary), "ro"), "--mount", bind("/sys/fs/cgroup", "rw"),
		"--log-uri", "file://"+r.Path("attach.log"),
		lab.BusyboxImage, id, binary, "attach", r.Socket, "-o", "none", "--state-dir", state)
	if err != nil {
		t.Fatalf("run a container: %v\n%s", err, out)
	}
	eventually(t, "it is on the path of its own containerd", func() bool { return relayOn(r.Socket) != 0 && lookAt(t, r.Socket).Inode != was.Inode })
	relay := relayOn(r.Socket)
	guard := childOf(relay, "guard")
	out, err = ctr("task", "kill", "--signal", "SIGKILL", "--all", id)
	t.Logf("kill: %v %s", err, out)
	awaitBack(t, r.Socket, was.Inode)
	for _, pid := range []int{relay, guard} {
		eventually(t, "it ends", func() bool { return !ours(pid) })
	}
	if now := lookAt(t, r.Socket); now != was {
		t.Errorf("%s was %+v, and is %+v", r.Socket, was, now)
	}
	answers(t, r.Socket)
}
