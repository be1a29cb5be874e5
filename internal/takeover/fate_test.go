package takeover

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCgroupCovers(t *testing.T) {
	for _, c := range []struct {
		ours, theirs string
		want         bool
	}{
		{"/", "/", true},
		{"/", "/system.slice/containerd.service", true},
		{"/system.slice", "/system.slice/containerd.service", true},
		{"/system.slice/containerd.service", "/system.slice/containerd.service", true},
		{"/system.slice/containerd.service", "/system.slice", false},
		{"/system", "/system.slice/containerd.service", false},
		{"/user.slice/session-1.scope", "/system.slice/containerd.service", false},
		{"/", "/..", false}, // in a cgroup namespace of our own
		{"/", "/../../system.slice", false},
		{"/..", "/", true},
		{"/..", "/x", true},
		{"/../..", "/../system.slice", true},
		{"/..", "/../..", false},
		{"/../x", "/../x/y", true},
		{"/../x", "/", false},
		{"/../../x", "/../x", false},
	} {
		ours, theirs := parseCgroupPath(c.ours), parseCgroupPath(c.theirs)
		if ours.String() != c.ours || theirs.String() != c.theirs {
			t.Errorf("%s and %s are shown as %s and %s", c.ours, c.theirs, ours, theirs)
		}
		if got := ours.covers(theirs); got != c.want {
			t.Errorf("%s covers %s: %v", c.ours, c.theirs, got)
		}
	}
}

func TestOutlivesByCgroups(t *testing.T) {
	for name, c := range map[string]struct {
		ours, first, server string // /proc/PID/cgroup
		want                []string
	}{
		"at the root": {
			ours: "4:memory:/\n0::/\n", first: "4:memory:/\n0::/init.scope\n", server: "4:memory:/a\n0::/system.slice/s.service\n",
		},
		"above it": {ours: "0::/system.slice\n", first: "0::/init.scope\n", server: "0::/system.slice/s.service (deleted)\n"},
		"beside pid 1": {
			ours: "0::/init.scope\n", first: "0::/init.scope\n", server: "0::/system.slice/s.service\n",
		},
		"login session": {
			ours:   "4:cpu,cpuacct:/\n1:name=systemd:/user.slice/session-1.scope\n",
			first:  "4:cpu,cpuacct:/\n1:name=systemd:/init.scope\n",
			server: "4:cpu,cpuacct:/\n1:name=systemd:/system.slice/s.service\n",
			want:   []string{"hierarchy name=systemd", "/user.slice/session-1.scope", "(pid 7), /system.slice/s.service", "privileged: true", "--unguarded"},
		},
		"container with a cgroup namespace": {
			ours: "0::/\n", first: "0::/../../init.scope\n", server: "0::/../../system.slice/a:b\n",
			want: []string{"cgroup v2: our cgroup / ", "/../../system.slice/a:b"},
		},
		"pid 1 unknown": {
			ours: "0::/a\n", server: "0::/b\n", want: []string{"/a is not above"},
		},
		"server gone": {
			ours: "0::/a\n", first: "0::/a\n", want: []string{"the server: read the cgroups of pid 7", "try again"},
		},
		"a hierarchy that the server is not known in": {
			ours: "4:memory:/\n0::/\n", server: "4:memory:/\n", want: []string{"cgroup v2"},
		},
	} {
		files := map[string]string{"5/cgroup": c.ours}
		if c.first != "" {
			files["1/cgroup"] = c.first
		}
		if c.server != "" {
			files["7/cgroup"] = c.server
		}
		err := fate{proc: fakeProc(t, files), pid: 5}.outlives(7)
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range c.want {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", name, err, w)
			}
		}
	}
}

func TestOutlivesAServerOutsideOfOurPidNamespace(t *testing.T) {
	err := outlives(0)
	for _, w := range []string{"pid namespace", "hostPID: true", "--pid host", "--unguarded", "grpc-tap restore"} {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%v does not say %q", err, w)
		}
	}
}

// A made-up machine: in joins is what writing to a directory's cgroup.procs
// makes of our /proc/PID/cgroup; what is not there is refused.
func TestLeave(t *testing.T) {
	const (
		v2      = "30 20 0:26 / /cg rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
		v1      = "31 20 0:27 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n32 20 0:28 / /cg/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
		inner   = "33 20 0:26 /kubepods/podX/ctr /cg ro - cgroup2 cgroup2 rw\n"
		private = "33 20 0:26 / /cg ro - cgroup2 cgroup2 rw\n"
	)
	for name, c := range map[string]struct {
		cgroup, mounts, cgroup1, mounts1 string
		joins                            map[string]string // %1 is pid 1's root
		want, err                        string
	}{
		"login session, v2": {
			cgroup: "0::/user.slice/s.scope\n", mounts: v2, mounts1: v2,
			joins: map[string]string{"/cg": "0::/\n"}, want: "0::/\n",
		},
		"nothing to do": {cgroup: "0::/\n", mounts: v2, mounts1: v2, want: "0::/\n"},
		"login session, v1": {
			cgroup: "4:cpu,cpuacct:/\n1:name=systemd:/user.slice/s.scope\n", mounts: v1, mounts1: v1,
			joins: map[string]string{"/cg/systemd": "4:cpu,cpuacct:/\n1:name=systemd:/\n"}, want: "4:cpu,cpuacct:/\n1:name=systemd:/\n",
		},
		"container, from pid 1's cgroup namespace": {
			cgroup: "0::/kubepods/podX/ctr\n", mounts: inner, cgroup1: "0::/init.scope\n", mounts1: v2,
			joins: map[string]string{"%1/cg": "0::/\n"}, want: "0::/\n",
		},
		"container, from its own cgroup namespace": {
			cgroup: "0::/\n", mounts: private, cgroup1: "0::/../../../init.scope\n", mounts1: strings.Replace(v2, " / ", " /../../.. ", 1),
			joins: map[string]string{"%1/cg": "0::/../../..\n", "/cg": "0::/\n"}, want: "0::/../../..\n",
		},
		"container that may not look at pid 1": {
			cgroup: "0::/ctr\n", mounts: strings.Replace(inner, "/kubepods/podX", "", 1),
			want: "0::/ctr\n", err: "cgroup v2: leave cgroup /ctr: it is mounted from its root nowhere",
		},
		"the higher mount refuses": {
			cgroup: "0::/sub\n", mounts: private, mounts1: strings.Replace(v2, " / ", " /.. ", 1),
			joins: map[string]string{"/cg": "0::/\n"}, want: "0::/\n", err: "cgroup v2: leave cgroup /sub: refuse ",
		},
		"one of two mounts of the root refuses": {
			cgroup: "0::/sub\n", mounts: v2, mounts1: v2,
			joins: map[string]string{"%1/cg": "0::/\n"}, want: "0::/\n",
		},
		"node in a container: its root holds no processes": {
			cgroup: "0::/kubelet/podX/ctr\n", mounts: "", cgroup1: "0::/init.scope\n", mounts1: v2,
			joins: map[string]string{"%1/cg": "busy", "%1/cg/init.scope": "0::/init.scope\n"}, want: "0::/init.scope\n",
		},
		"root that holds no processes, pid 1 unknown": {
			cgroup: "0::/sub\n", mounts: v2, joins: map[string]string{"/cg": "busy"}, want: "0::/sub\n", err: "device or resource busy",
		},
		"a write that does nothing": {
			cgroup: "0::/sub\n", mounts: v2, joins: map[string]string{"/cg": "0::/sub\n"}, want: "0::/sub\n",
			err: "/cg/cgroup.procs took our pid, and yet we are in cgroup /sub",
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"5/cgroup": c.cgroup, "5/mountinfo": c.mounts}
			if c.cgroup1 != "" {
				files["1/cgroup"] = c.cgroup1
			}
			if c.mounts1 != "" {
				files["1/mountinfo"] = c.mounts1
			}
			p := fakeProc(t, files)
			f := fate{proc: p, pid: 5, join: func(dir string, pid int) error {
				at, _ := strings.CutPrefix(dir, p.of(1, "root"))
				if at != dir {
					at = "%1" + at
				}
				switch cgroup := c.joins[at]; cgroup {
				case "":
					return errors.New("refuse " + at)
				case "busy":
					return &os.PathError{Op: "write", Path: dir, Err: unix.EBUSY}
				default:
					return os.WriteFile(p.of(pid, "cgroup"), []byte(cgroup), 0o644)
				}
			}}
			err := f.leave()
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v; wanted %q", err, c.err)
			}
			if got, _ := os.ReadFile(p.of(5, "cgroup")); string(got) != c.want {
				t.Errorf("we are in %q; wanted %q", got, c.want)
			}
		})
	}
}

func TestJoinCgroupFails(t *testing.T) {
	if err := joinCgroup(filepath.Join(t.TempDir(), "none"), os.Getpid()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// What follows is real. So that nothing is taken out of the cgroup that this
// test was started in, it happens in a world of its own: a pid, mount and
// cgroup namespace whose root is that cgroup. In it, TestFateWorld is pid 1; a
// server is in one cgroup, and processes that want to outlive what they are in
// begin in another. These are TestFateProcess.
const (
	worldVar   = "GRPC_TAP_TEST_WORLD"   // how the cgroups begin, in each hierarchy
	processVar = "GRPC_TAP_TEST_PROCESS" // the server's socket; "serve:" before it: be that server
)

func TestFateInRealCgroups(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it makes cgroups and namespaces")
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip("needs unshare(1):", err)
	}
	name := fmt.Sprintf("grpc-tap-test-%d", os.Getpid())
	makeCgroups(t, name)
	cmd := exec.CommandContext(t.Context(), "unshare", "--pid", "--fork", "--kill-child", "--cgroup", "--mount-proc", "sh", "-c",
		remount+`exec "$0" -test.run='^TestFateWorld$' -test.v`, os.Args[0])
	cmd.Env = append(os.Environ(), worldVar+"="+name, "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	switch {
	case strings.HasPrefix(string(out), "unshare: "), strings.Contains(string(out), "no world: "):
		t.Skip("can't make namespaces, or mount cgroups in them; see above")
	case err != nil:
		t.Error(err)
	}
}

// remount leaves of the cgroup file systems those that begin at the root of
// the cgroup namespace, as a container has them.
const remount = `
{ umount -l $(awk '$0 ~ / - cgroup2? / {print $5}' /proc/self/mountinfo | sort -r) &&
mount -t tmpfs none /sys/fs/cgroup; } || { echo "no world: can't unmount"; exit 1; }
while IFS=: read -r _ h _; do
	case $h in
	'') o= type=cgroup2 dir=unified ;;
	name=*) o=none,$h type=cgroup dir=$h ;;
	*) o=$h type=cgroup dir=$h ;;
	esac
	mkdir "/sys/fs/cgroup/$dir" && mount -t $type ${o:+-o "$o"} none "/sys/fs/cgroup/$dir" || { echo "no world: can't mount $h"; exit 1; }
done </proc/self/cgroup
`

// makeCgroups makes cgroups for a server and a session under this process's
// own, in each hierarchy, until the test ends.
func makeCgroups(t *testing.T, name string) {
	t.Helper()
	f, err := thisProcess()
	if err != nil {
		t.Fatal(err)
	}
	own, err := f.cgroups(f.pid)
	if err != nil {
		t.Fatal(err)
	}
	for h, at := range own {
		mounts := f.mountsOf(f.pid, "")
		i := slices.IndexFunc(mounts, func(m cgroupMount) bool { return m.shows(h) && at.up == m.root.up })
		if i < 0 {
			t.Skipf("%s is not mounted", title(h))
		}
		top := filepath.Join(mounts[i].dir, filepath.Join(at.down...), name)
		for _, dir := range []string{top, filepath.Join(top, "server"), filepath.Join(top, "session")} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Skip("can't make a cgroup:", err)
			}
			t.Cleanup(func() { removeCgroup(t, dir) })
			for _, must := range []string{"cpuset.cpus", "cpuset.mems"} { // v1: empty, no process may enter
				if b, err := os.ReadFile(filepath.Join(filepath.Dir(dir), must)); h == "cpuset" && err == nil {
					_ = os.WriteFile(filepath.Join(dir, must), b, 0o644)
				}
			}
		}
	}
}

// removeCgroup waits for the processes in it, which are dead, to be off it.
func removeCgroup(t *testing.T, dir string) {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err := os.Remove(dir)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			t.Error("left behind:", err)
			return
		}
	}
}

func TestFateWorld(t *testing.T) {
	name := os.Getenv(worldVar)
	if name == "" {
		t.Skip("runs only as a process of TestFateInRealCgroups")
	}
	socket := serveInCgroup(t, name)
	const asIs = `exec "$@"`
	container := `exec unshare --cgroup --mount sh -c '` + strings.ReplaceAll(remount, "'", `'\''`) + `exec "$@"' sh `
	for _, c := range []struct {
		name, script  string
		before, after string // outlives' error; "": none
		left          string // leaveCgroup's
	}{
		{"login session", asIs, "our cgroup /" + name + "/session is not above the server's", "", ""},
		{"container", container + `"$@"`, "our cgroup / is not above the server's (pid ", "", ""},
		{"container without ptrace", container + `setpriv --bounding-set -sys_ptrace "$@"`,
			"our cgroup / is not above", "/../server: the end of ours", "open /proc/1/ns/cgroup: permission denied"},
		{"container without the host's pids", `exec unshare --pid --fork --mount-proc "$@"`, "hostPID: true", "hostPID: true", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := exec.LookPath("setpriv"); err != nil && strings.Contains(c.script, "setpriv") {
				t.Skip("needs setpriv(1):", err)
			}
			var r report
			out, err := inCgroup(t, name+"/session", socket, c.script).Output()
			if err == nil {
				err = json.Unmarshal(out, &r)
			}
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Logf("%+v", r)
			for what, errs := range map[string][2]string{"before": {r.Before, c.before}, "left": {r.Left, c.left}, "after": {r.After, c.after}} {
				if got, want := errs[0], errs[1]; (got == "") != (want == "") || !strings.Contains(got, want) {
					t.Errorf("%s: %q; wanted %q", what, got, want)
				}
			}
			if c.after == "" && !r.AtRoot {
				t.Error("it is not where pid 1 is")
			}
		})
	}
}

// serveInCgroup starts a server on a socket, in a cgroup of its own.
func serveInCgroup(t *testing.T, name string) (socket string) {
	socket = filepath.Join(t.TempDir(), "s")
	cmd := inCgroup(t, name+"/server", "serve:"+socket, `exec "$@"`)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if said, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the server said %q, and then %v", said, err)
	}
	return socket
}

// inCgroup is a TestFateProcess in cgroup name of every hierarchy. script
// starts "$@".
func inCgroup(t *testing.T, name, process, script string) *exec.Cmd {
	const enter = `for d in /sys/fs/cgroup/*/"$0"; do echo $$ >"$d/cgroup.procs" || exit; done
`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", enter+script, name, os.Args[0], "-test.run=^TestFateProcess$")
	cmd.Env = append(os.Environ(), processVar+"="+process, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

// report is what one that wants to outlive its container or session found.
type report struct {
	Before, Left, After string
	AtRoot              bool
}

func TestFateProcess(t *testing.T) {
	socket, serve := strings.CutPrefix(os.Getenv(processVar), "serve:")
	switch {
	case socket == "":
		t.Skip("runs only as a process of TestFateInRealCgroups")
	case serve:
		lis, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer lis.Close()
		fmt.Println("serving")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	server := serverPID(t, socket)
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	r := report{Before: text(outlives(server))}
	r.Left = text(LeaveCgroup())
	r.After = text(outlives(server))
	f, _ := thisProcess()
	ours, _ := f.cgroups(f.pid)
	first, _ := f.cgroups(1)
	r.AtRoot = len(ours) > 0 && reflect.DeepEqual(ours, first)
	_ = json.NewEncoder(os.Stdout).Encode(r)
	os.Exit(0)
}

func serverPID(t *testing.T, socket string) int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		t.Fatal(err)
	}
	return int(cred.Pid)
}
