package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

// verdicts are tested on facts made up here: nothing is looked at. Each wanted
// line is a level and what the text holds.
func checkFindings(t *testing.T, name string, got []finding, want ...string) {
	t.Helper()
	var lines []string
	for _, f := range got {
		lines = append(lines, fmt.Sprintf("%v %s", f.level, oneLine(f.text)))
	}
	good := len(lines) == len(want)
	for i := 0; good && i < len(want); i++ {
		level, text, _ := strings.Cut(want[i], " ")
		good = strings.HasPrefix(lines[i], level+" ") && strings.Contains(lines[i], text)
	}
	if !good {
		t.Errorf("%s:\n\t%s\nwanted\n\t%s", name, strings.Join(lines, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// able is a machine on which nothing is wrong.
func able() machine {
	return machine{groups: []int{0}, caps: ^uint64(0), known: true, kernel: "6.18", files: 1 << 20,
		abilities: []takeover.Ability{{Call: "renameat2"}, {Call: "pidfd_open", For: "why", Min: "5.10"}}}
}

func without(caps ...int) uint64 {
	all := ^uint64(0)
	for _, c := range caps {
		all &^= 1 << c
	}
	return all
}

func TestDoctorOfRights(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*machine)
		want   []string
	}{
		"root":   {func(*machine) {}, []string{"ok root, with the capabilities"}},
		"nobody": {func(m *machine) { m.uid, m.caps = 65534, 0 }, []string{"WARN uid 65534, not root, without CAP_DAC_OVERRIDE, CAP_CHOWN, CAP_FOWNER, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_NET_ADMIN: "}},
		"nobody with all": {func(m *machine) { m.uid = 65534 },
			[]string{"ok uid 65534, not root, with the capabilities"}},
		"a container's root": {func(m *machine) { m.caps = without(unix.CAP_SYS_PTRACE, unix.CAP_NET_ADMIN) },
			[]string{"WARN root without CAP_SYS_PTRACE: processes of others", "WARN root without CAP_NET_ADMIN: net.core.wmem_max"}},
		"no /proc": {func(m *machine) { m.known = false }, []string{"WARN root; which capabilities it has can't be told"}},
		"a user namespace's root": {func(m *machine) { m.nested = true },
			[]string{"ok root", "WARN in a user namespace"}},
	} {
		m := able()
		c.change(&m)
		checkFindings(t, name, m.rights(), c.want...)
	}
}

func TestDoctorOfTheKernel(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*machine)
		want   []string
	}{
		"all": {func(*machine) {}, []string{"ok kernel 6.18: renameat2, pidfd_open"}},
		"old": {func(m *machine) { m.abilities[1].Err = unix.EINVAL },
			[]string{"ok kernel 6.18: renameat2", "FAIL kernel 6.18 refuses pidfd_open: invalid argument; why; it is in Linux 5.10 and newer"}},
		"out of inotify instances": {func(m *machine) {
			m.abilities = []takeover.Ability{{Call: "inotify", For: "why", Err: fmt.Errorf("%w; raise it", unix.EMFILE)}}
		}, []string{"FAIL inotify: too many open files; raise it; why"}},
		"nowhere to try": {func(m *machine) { m.abilities, m.untried = nil, errors.Join(errors.New("a"), errors.New("b")) },
			[]string{"WARN can't be told, for want of a directory to try it in: a; b; set TMPDIR"}},
	} {
		m := able()
		c.change(&m)
		checkFindings(t, name, m.kernelFindings(), c.want...)
	}
}

func TestDoctorOfFileLimits(t *testing.T) {
	for files, want := range map[uint64]string{
		0:                  "note how many open files",
		1023:               "WARN 1023 open files at most: a relay needs two",
		1024:               "ok 1024 open files",
		unix.RLIM_INFINITY: "ok any number",
	} {
		checkFindings(t, want, machine{files: files}.fileLimit(), want)
	}
}

func TestDoctorOfSecurityModules(t *testing.T) {
	for _, c := range []struct {
		m    machine
		want []string
	}{
		{machine{}, []string{"ok neither"}},
		{machine{selinux: "permissive"}, []string{"ok permissive"}},
		{machine{selinux: "enforcing", domain: "system_u:system_r:spc_t:s0"}, []string{"note connect to this domain, system_u:system_r:spc_t:s0; if they get 'permission denied': ausearch -m avc"}},
		{machine{selinux: "enforcing"}, []string{"note which can't be told"}},
		{machine{apparmor: "unconfined"}, []string{"ok does not confine"}},
		{machine{apparmor: "mine (complain)"}, []string{"ok mine (complain)"}},
		{machine{apparmor: "cri-containerd.apparmor.d (enforce)", selinux: "permissive"}, []string{"ok SELinux", "WARN by the profile cri-containerd.apparmor.d (enforce): "}},
	} {
		checkFindings(t, fmt.Sprint(c.want), c.m.confined(), c.want...)
	}
}

// tappableSocket is one that can be taken over.
func tappableSocket() socketFacts {
	return socketFacts{
		Socket: discover.Socket{Path: "/run/s.sock", Kind: discover.CRI, Speaks: "CRI v1", Name: "containerd"},
		site:   takeover.Site{Recognised: true, Server: 7},
	}
}

func TestDoctorOfASocket(t *testing.T) {
	const fit, alone = "ok it can be taken over", "ok nobody is connected to it now"
	for name, c := range map[string]struct {
		change func(*socketFacts)
		want   []string
	}{
		"fit":       {func(*socketFacts) {}, []string{fit, alone}},
		"read-only": {func(s *socketFacts) { s.site.Write = unix.EROFS }, []string{"FAIL /run is read-only", alone}},
		"not ours": {func(s *socketFacts) { s.site.Write, s.site.UID = unix.EACCES, 5 },
			[]string{"FAIL /run may not be written: ", alone}},
		"immutable":   {func(s *socketFacts) { s.site.Write = unix.EPERM }, []string{"FAIL chattr -i /run", alone}},
		"mount point": {func(s *socketFacts) { s.site.Mounted = true }, []string{"FAIL it is a mount point", alone}},
		"full disk":   {func(s *socketFacts) { s.site.Full = true }, []string{"FAIL the file system of /run is full", alone}},
		"full disk, of a kind that attach leaves out": {func(s *socketFacts) { s.site.Full, s.Kind = true, discover.PodResources },
			[]string{"WARN the file system of /run is full", alone}},
		"two things": {func(s *socketFacts) { s.site.Full, s.site.Mounted = true, true }, []string{"FAIL mount point", "FAIL full", alone}},
		"NFS":        {func(s *socketFacts) { s.site.FileSystem = "NFS" }, []string{fit, "WARN /run is on NFS", alone}},
		"no handles": {func(s *socketFacts) { s.site.Recognised = false }, []string{fit, "note same inode number", alone}},
		"vanished":   {func(s *socketFacts) { s.siteErr = errors.New("gone") }, []string{"FAIL it can't be looked at: gone"}},
		"not all of it": {func(s *socketFacts) { s.Err = errors.New("asked for its name, it answered Internal") },
			[]string{"WARN asked for its name", fit, alone}},
		"the kubelet on it": {func(s *socketFacts) {
			s.clients = []discover.Process{{PID: 8, Exe: "/usr/bin/kubelet"}, {PID: 9, Exe: "/bin/x"}}
		}, []string{fit, "WARN not seen until they dial anew, as when they are restarted (systemctl restart kubelet: pods go on running): kubelet (pid 8), x (pid 9)"}},
		"a sidecar on it": {func(s *socketFacts) { s.clients = []discover.Process{{PID: 9}} },
			[]string{fit, "WARN as when they are restarted: pid 9"}},
		"clients unknown": {func(s *socketFacts) { s.clientsErr = errors.New("run as root") },
			[]string{fit, "note not everybody who is connected to it already can be told: run as root"}},
		"tapped": {func(s *socketFacts) {
			s.traces = takeover.Traces{Status: takeover.Status{Taken: true, By: 12}, Lock: "/run/.s.lock"}
			s.clients = []discover.Process{{PID: 9}}
		}, []string{"note tapped already, by pid 12; a second grpc-tap is refused; `grpc-tap restore /run/s.sock` ends"}},
		"tapped, in an agent's pod": {func(s *socketFacts) {
			s.traces = takeover.Traces{Status: takeover.Status{Taken: true, By: 12, Door: "/run/grpc-tap/mirror/s.sock"}, Lock: "/run/.s.lock"}
			s.site.Write = unix.EROFS
		}, []string{"note tapped already, by pid 12, a relay that stands by itself; grpc-tap attach reads it in its tap's place"}},
		"dead":            {func(s *socketFacts) { s.Dead = true }, []string{"WARN nobody serves it"}},
		"dead, of others": {func(s *socketFacts) { s.Dead, s.Kind = true, discover.PodResources }, []string{"note nobody serves it"}},
		"dead by us": {func(s *socketFacts) {
			s.Dead, s.traces = true, takeover.Traces{Status: takeover.Status{Taken: true}, Astray: true}
		}, []string{"FAIL clients are refused, though its server is alive; say `grpc-tap restore /run/s.sock`"}},
		"hangs": {func(s *socketFacts) { s.Speaks, s.Err = "unknown", errors.New("did not answer within 2s") },
			[]string{"WARN attach leaves it out: did not answer within 2s"}},
		"says nothing, of others": {func(s *socketFacts) { s.Speaks, s.Kind = "unknown", discover.Other }, []string{"note why can't be told"}},
		"may not be dialled": {func(s *socketFacts) { s.Speaks, s.Err = "", fmt.Errorf("dial it: %w", unix.EACCES) },
			[]string{"FAIL permission denied"}},
		"may not be dialled, of others": {func(s *socketFacts) {
			s.Speaks, s.Err, s.Kind = "", fmt.Errorf("dial it: %w", unix.EACCES), discover.Other
		},
			[]string{"WARN permission denied"}},
		"a plugin's": {func(s *socketFacts) { s.Kind = discover.Registration }, []string{"note left alone"}},
		"ttrpc":      {func(s *socketFacts) { s.Speaks = "ttrpc" }, []string{"note ttrpc"}},
	} {
		s := tappableSocket()
		c.change(&s)
		checkFindings(t, name, s.findings(able()), c.want...)
	}
	m, s := able(), tappableSocket()
	m.inPod, s.site.Write = true, unix.EROFS
	checkFindings(t, "read-only, in an agent's pod", s.findings(m), "WARN /run is read-only here: attach can't take it from this container; an agent's relay can", alone)
}

// The relay's socket is to have the owner and mode of the one that it stands for.
func TestDoctorOfOwners(t *testing.T) {
	for _, c := range []struct {
		name     string
		uid, gid int // the socket's
		m        machine
		want     string
	}{
		{"ours", 0, 0, machine{groups: []int{0}, known: true}, ""},
		{"a group of ours", 5, 7, machine{uid: 5, groups: []int{5, 7}, known: true}, ""},
		{"another group", 0, 7, machine{groups: []int{0}, known: true}, "it belongs to 0:7, and without CAP_CHOWN"},
		{"another group, with rights", 0, 7, machine{groups: []int{0}, known: true, caps: without(unix.CAP_FOWNER)}, ""},
		{"another user", 5, 0, machine{groups: []int{0}, known: true, caps: without(unix.CAP_FOWNER)}, "without CAP_FOWNER"},
		{"another user, with rights", 5, 0, able(), ""},
		{"rights unknown", 5, 0, machine{groups: []int{0}}, ""},
	} {
		s := tappableSocket()
		s.site.UID, s.site.GID = c.uid, c.gid
		if got := s.owner(c.m); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q; wanted %q", c.name, got, c.want)
		}
	}
}

func TestDoctorOfManyProcesses(t *testing.T) {
	var all []discover.Process
	for pid := 1; pid <= 7; pid++ {
		all = append(all, discover.Process{PID: pid, Exe: "/bin/a"})
	}
	if got := names(all); got != "a (pid 1), a (pid 2), a (pid 3), a (pid 4), a (pid 5), and 2 more" {
		t.Error(got)
	}
	if got := names(all[:2]); got != "a (pid 1), a (pid 2)" {
		t.Error(got)
	}
}

func TestDoctorOfANode(t *testing.T) {
	cri, csi := tappableSocket(), tappableSocket()
	csi.Kind = discover.CSI
	dead, secret, astray := cri, cri, csi
	dead.Dead = true
	secret.Speaks, secret.Err = "", unix.EACCES
	astray.Dead, astray.traces.Astray = true, true
	for _, c := range []struct {
		name string
		n    node
		want []string
	}{
		{"whole", node{sockets: []socketFacts{cri, csi}}, nil},
		{"nothing", node{places: []string{"/a", "/b/{x,y}"}}, []string{"FAIL nothing to attach to; looked at /a, /b/{x,y}; a socket elsewhere: grpc-tap attach PATH"}},
		{"nothing alive", node{sockets: []socketFacts{dead}}, []string{"FAIL no runtime and no CSI driver answers"}},
		{"no drivers", node{sockets: []socketFacts{cri}}, []string{"note no CSI driver"}},
		{"no runtime", node{sockets: []socketFacts{dead, csi}}, []string{"WARN no runtime answers"}},
		{"what is blocked has been told of", node{sockets: []socketFacts{secret, astray}}, nil},
		{"unread, and a wrong flag", node{sockets: []socketFacts{cri, csi}, err: errors.New("x"), missing: os.ErrNotExist},
			[]string{"FAIL --kubelet-dir: file does not exist", "WARN not every place could be looked into: x"}},
	} {
		checkFindings(t, c.name, c.n.findings(), c.want...)
	}
}

func TestDoctorOfGuards(t *testing.T) {
	tried := func(path string, guard error) socketFacts {
		s := tappableSocket()
		s.Path, s.guard, s.guardTried = path, guard, true
		return s
	}
	session := func(server string) error {
		return errors.Join(fmt.Errorf("our cgroup /s is not above the server's (pid %s: the end of ours would kill it", server), errors.New("leave cgroup /s: permission denied"))
	}
	fit, untried := tried("/fit", nil), tappableSocket()
	other := tried("/other", errors.New("elsewhere"))
	other.Kind = discover.PodResources
	all := []socketFacts{other, tried("/a", session("7), /x:1")), fit, tried("/b", session("8), /y")), untried, tried("/slow", errGuardSilent)}
	checkFindings(t, "untried", guardFindings([]socketFacts{untried}, able()))
	checkFindings(t, "one", guardFindings([]socketFacts{fit, untried}, able()), "ok tried, for 1 socket)")
	checkFindings(t, "all", guardFindings(all, able()), "ok tried, for 1 socket)", "WARN /other: elsewhere",
		"FAIL /a, /b: our cgroup /s is not above the server's (pid 7), /x:1: the end of ours would kill it; leave cgroup /s: permission denied",
		"WARN /slow: the guard that was tried did not answer; try again")
	for _, f := range guardFindings(all, machine{uid: 5}) {
		if strings.Contains(f.text, "leave cgroup") {
			t.Errorf("said to somebody who is not root: %s", f.text)
		}
	}
}

func TestDoctorOfDeaths(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	deaths := func(ago ...time.Duration) (all []takeover.Death) {
		for i, a := range ago {
			all = append(all, takeover.Death{At: now.Add(-a), Who: fmt.Sprintf("pid %d on /x", i)})
		}
		return all
	}
	const none = "ok no relay died within the last 10 minutes"
	for name, c := range map[string]struct {
		s    state
		want []string
	}{
		"none": {state{}, []string{none}},
		"old":  {state{deaths: deaths(20 * time.Minute)}, []string{none}},
		"one": {state{deaths: deaths(time.Hour, 90*time.Second)},
			[]string{"WARN 1 relay died within the last 10 minutes; at 3 nothing is taken over any more; the last was pid 1 on /x, 1m30s ago"}},
		"tripped": {state{deaths: deaths(3*time.Hour, 3*time.Hour, 3*time.Hour), tripped: errors.New("3 relays died: say `grpc-tap doctor --reset`")},
			[]string{"FAIL 3 relays died: say `grpc-tap doctor --reset`; the last was pid 2 on /x, 3h0m0s ago"}},
		"reset":              {state{reset: true, forgotten: 3}, []string{"ok 3 relays died: forgotten"}},
		"reset of nothing":   {state{reset: true}, []string{"ok there was nothing to reset"}},
		"reset not possible": {state{reset: true, resetErr: unix.EACCES, deaths: deaths(0)}, []string{"FAIL permission denied; run it as root", "WARN 1 relay died"}},
		"not to be read":     {state{deathsErr: unix.EACCES}, []string{"WARN permission denied"}},
		"not to be read, and that is taken for the worst": {state{deathsErr: unix.EACCES, tripped: unix.EACCES}, []string{"FAIL permission denied; the last was not to be read"}},
		"not to be written": {state{dir: "/run/grpc-tap", unwritten: unix.EROFS}, []string{none, "WARN /run/grpc-tap can't be written (read-only file system)"}},
	} {
		c.s.now = now
		checkFindings(t, name, c.s.deathFindings(), c.want...)
	}
}

func TestDoctorOfTheKillSwitch(t *testing.T) {
	checkFindings(t, "off", state{dir: "/d"}.switchFindings(), "ok there is no /d/disable")
	checkFindings(t, "on", state{disabled: errors.New("/d/disable exists")}.switchFindings(), "FAIL the kill switch is on: /d/disable exists")
}

func TestDoctorOfLeftovers(t *testing.T) {
	status := func(by int, taken bool, left ...string) takeover.Status {
		return takeover.Status{By: by, Taken: taken, Left: left}
	}
	for name, c := range map[string]struct {
		t    takeover.Traces
		err  error
		want []string
	}{
		"nothing":             {takeover.Traces{}, nil, nil},
		"by a pid":            {takeover.Traces{Status: status(9, true, "/r/.s.grpc-tap-1"), Lock: "/r/.s.grpc-tap.lock"}, nil, []string{"note by pid 9; "}},
		"waits for a server":  {takeover.Traces{Status: status(9, false), Lock: "/r/.s.grpc-tap.lock"}, nil, []string{"note by pid 9; "}},
		"from elsewhere":      {takeover.Traces{Status: status(1, true)}, nil, []string{"note by a process that can't be told from here"}},
		"lock not readable":   {takeover.Traces{Lock: "/r/.s.grpc-tap.lock", Locked: unix.EACCES}, nil, []string{"note which can't be told: /r/.s.grpc-tap.lock: permission denied; run it as root"}},
		"killed":              {takeover.Traces{Status: status(0, true, "/r/.s.grpc-tap-1"), Astray: true}, nil, []string{"FAIL its guard were killed here: clients are refused, though its server is alive; say `grpc-tap restore /r/s`"}},
		"killed a moment ago": {takeover.Traces{Status: status(9, true, "/r/.s.grpc-tap-1"), Astray: true}, nil, []string{"FAIL pid 9 has taken it, and does not serve it: clients are refused"}},
		"killed, server down": {takeover.Traces{Status: status(0, true, "/r/.s.grpc-tap-1")}, nil, []string{"WARN its server is down"}},
		"litter": {takeover.Traces{Status: status(0, false, "/r/.s.grpc-tap-1"), Lock: "/r/.s.grpc-tap.lock"}, nil,
			[]string{"WARN left .s.grpc-tap-1, .s.grpc-tap.lock, which does no harm"}},
		"not to be read": {takeover.Traces{}, unix.EACCES, []string{"note can't be told: permission denied"}},
	} {
		checkFindings(t, name, judge("/r/s", c.t, c.err), c.want...)
	}

	known := tappableSocket()
	s := state{left: []leftover{{path: known.Path, traces: takeover.Traces{Astray: true, Lock: "x"}}, {path: "/r/s", traces: takeover.Traces{Lock: "x"}}}}
	checkFindings(t, "told of with its socket", s.leftFindings(node{sockets: []socketFacts{known}}), "WARN /r/s: a grpc-tap was killed here")
	checkFindings(t, "none", state{}.leftFindings(node{}), "ok nothing of a grpc-tap lies")
	checkFindings(t, "none seen", state{}.leftFindings(node{err: unix.EACCES}), "note as far as its places can be looked into")
}

func TestDoctorOfMounts(t *testing.T) {
	h := takeover.Holder{PID: 5, Comm: "app", Pod: "u-i-d", Host: "web-0", At: "/x"}
	checkFindings(t, "held", state{root: true, holders: []takeover.Holder{h, h}}.holderFindings(), `WARN process 5 ("app") of pod u-i-d on host "web-0"`, "WARN restart that pod")
	checkFindings(t, "none", state{root: true}.holderFindings(), "ok nobody has a relay's socket mounted")
	checkFindings(t, "none seen", state{}.holderFindings(), "note as far as that can be told without being root")
	checkFindings(t, "unknown", state{holderErr: unix.EACCES}.holderFindings(), "note can't be told: permission denied")
}

func TestDoctorPrints(t *testing.T) {
	all := []section{
		{about: "a", findings: []finding{fine.say("good"), noted.say("two\nlines")}},
		{"/s", "CRI \x1b[2J", []finding{failed.say("bad \x1b[2J <x>"), warned.say("so so")}},
	}
	var text, lines strings.Builder
	if err := errors.Join(writeText(&text, all), writeJSON(&lines, all)); err != nil {
		t.Fatal(err)
	}
	const wantText = `a
  ok    good
  note  two; lines
/s: CRI \x1b[2J
  FAIL  bad \x1b[2J <x>
  WARN  so so
1 thing is in the way of grpc-tap attach, 1 warning
`
	const wantLines = `{"level":"ok","about":"a","text":"good"}
{"level":"note","about":"a","text":"two; lines"}
{"level":"fail","about":"/s","text":"bad \u001b[2J <x>"}
{"level":"warn","about":"/s","text":"so so"}
`
	if text.String() != wantText {
		t.Errorf("%s", text.String())
	}
	if lines.String() != wantLines {
		t.Errorf("%s", lines.String())
	}
	for n, want := range map[int]string{0: "nothing is in the way of grpc-tap attach", 2: "2 things are in the way of grpc-tap attach"} {
		if got := verdict([]section{{findings: slices.Repeat([]finding{failed.say("")}, n)}}); got != want {
			t.Error(got)
		}
	}
}

// On a fake node, from the facts to the verdict. This machine's own kernel and
// mounts are left out of it.
func TestDoctorOnAFakeNode(t *testing.T) {
	root := discoverable(t)
	var tried []string
	guards := make(chan string, 8)
	d := doctor{node: discover.Config{Root: root}, stateDir: filepath.Join(t.TempDir(), "state")}
	d.tryGuard = func(path string, server int) error {
		guards <- path
		if server != os.Getpid() {
			return fmt.Errorf("asked for pid %d", server)
		}
		return nil
	}
	found := d.examine(context.Background())
	close(guards)
	for path := range guards {
		tried = append(tried, path)
	}
	about := func(name string) []finding {
		i := slices.IndexFunc(found, func(s section) bool { return s.about == name })
		if i < 0 {
			t.Errorf("nothing is said of %s", name)
			return nil
		}
		return found[i].findings
	}
	const fit, alone = "ok it can be taken over", "ok nobody is connected to it now"
	cri := filepath.Join(root, "run/containerd/containerd.sock")
	checkFindings(t, "runtime", about(cri), fit, alone)
	checkFindings(t, "driver", about(filepath.Join(root, "var/lib/kubelet/plugins/nfs/csi.sock")), fit, alone)
	checkFindings(t, "gone", about(filepath.Join(root, "var/lib/kubelet/plugins/gone/csi.sock")), "WARN nobody serves it")
	checkFindings(t, "guard", about("guard"), "ok tried, for 3 sockets")
	checkFindings(t, "state", about("switches and leftovers")[:3], "ok kill switch is off", "ok no relay died", "ok nothing of a grpc-tap")
	if len(tried) != 3 || !slices.Contains(tried, cri) {
		t.Errorf("guards were tried for %v", tried)
	}
}

func TestDoctorResets(t *testing.T) {
	dir := t.TempDir()
	deaths := filepath.Join(dir, "deaths")
	now := time.Now().UTC().Format(time.RFC3339Nano)
	err := errors.Join(os.WriteFile(filepath.Join(dir, "disable"), nil, 0o600),
		os.WriteFile(deaths, []byte(strings.Repeat(now+" pid 5 on /x\n", 3)), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	d := doctor{node: discover.Config{Root: t.TempDir()}, stateDir: dir}
	if s := d.gatherState(); s.tripped == nil || s.disabled == nil || len(s.deaths) != 3 || s.last() == "not to be read" {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat(deaths); err != nil {
		t.Error("it changed something without being asked to:", err)
	}
	d.reset = true
	if s := d.gatherState(); s.tripped != nil || s.forgotten != 3 || s.resetErr != nil || s.disabled == nil {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat(deaths); !errors.Is(err, os.ErrNotExist) {
		t.Error("the deaths are not forgotten:", err)
	}
}
