package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

// machine is who we are, and what the kernel does for us.
type machine struct {
	uid    int
	groups []int  // the effective one too
	caps   uint64 // effective
	known  bool   // caps was read
	nested bool   // in a user namespace other than the machine's own
	inPod  bool   // in a container that sees the node's processes, as an agent's does

	kernel    string
	abilities []takeover.Ability
	untried   error // why the abilities could not be tried

	files uint64 // descriptors that a process may have at most

	selinux  string // "", "permissive", "enforcing"
	apparmor string // "": none; else as /proc has it: "unconfined", "NAME (enforce)"
	domain   string // SELinux's name of what we may do
}

func gatherMachine() machine {
	m := machine{uid: os.Geteuid(), groups: []int{os.Getegid()}}
	if more, err := os.Getgroups(); err == nil {
		m.groups = append(m.groups, more...)
	}
	m.caps, m.known = capabilities()
	// The machine's own has all ids.
	if ids := strings.Fields(procText("/proc/self/uid_map")); len(ids) >= 3 {
		m.nested = !slices.Equal(ids[:3], []string{"0", "0", "4294967295"})
	}
	node, err := os.Readlink("/proc/1/ns/mnt")
	ours, _ := os.Readlink("/proc/self/ns/mnt")
	m.inPod = err == nil && node != ours
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.kernel = unix.ByteSliceToString(u.Release[:])
	}
	m.abilities, m.untried = tryAbilities()
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil {
		m.files = r.Max
	}
	m.confinement()
	return m
}

func capabilities() (effective uint64, known bool) {
	for line := range strings.Lines(procText("/proc/self/status")) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// procText is a small file's, "" where it can't be read.
func procText(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimRight(string(b), "\x00\n")
}

func (m *machine) confinement() {
	switch procText("/sys/fs/selinux/enforce") {
	case "1":
		m.selinux = "enforcing"
	case "0":
		m.selinux = "permissive"
	}
	if m.selinux != "" {
		m.domain = procText("/proc/self/attr/current")
	}
	if m.apparmor = procText("/proc/self/attr/apparmor/current"); m.apparmor == "" && m.selinux == "" && procText("/sys/module/apparmor/parameters/enabled") == "Y" {
		m.apparmor = procText("/proc/self/attr/current") // before Linux 5.8
	}
}

// tryAbilities needs a directory of its own. A container's root may be
// read-only, with no other place to write than shared memory's.
func tryAbilities() ([]takeover.Ability, error) {
	var errs []error
	for _, parent := range []string{os.TempDir(), "/dev/shm"} {
		dir, err := os.MkdirTemp(parent, "grpc-tap-doctor-")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer os.RemoveAll(dir)
		return takeover.Abilities(dir), nil
	}
	return nil, errors.Join(errs...)
}

func (m machine) findings() []finding {
	all := append(m.rights(), m.kernelFindings()...)
	return append(append(all, m.fileLimit()...), m.confined()...)
}

// needed are the capabilities that something of ours uses, and for what.
var needed = []struct {
	bit  int
	name string
	use  string
}{
	{unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE", "sockets and directories of other users can't be used"},
	{unix.CAP_CHOWN, "CAP_CHOWN", "a relay's socket can't be given the owner of the one that it stands for, if that is another user or group"},
	{unix.CAP_FOWNER, "CAP_FOWNER", "a relay's socket can't be given the mode of the one that it stands for, if that is another user's"},
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "processes of others can't be named, nor can a guard find its way out of a container's cgroup"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "a guard can't leave a container's cgroup, and clients in other network namespaces are not seen"},
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "net.core.wmem_max bounds what may wait for the tap, so that a list of 16 MiB may cost it the view of that connection"},
}

func (m machine) has(capability int) bool { return !m.known || m.caps&(1<<capability) != 0 }

func (m machine) rights() (all []finding) {
	who := "root"
	if m.uid != 0 {
		who = fmt.Sprintf("uid %d, not root", m.uid)
	}
	var missing []string
	for _, c := range needed {
		if !m.has(c.bit) {
			missing = append(missing, c.name)
		}
	}
	switch {
	case !m.known:
		all = append(all, warned.say("%s; which capabilities it has can't be told: /proc/self/status can't be read", who))
	case len(missing) == 0:
		all = append(all, fine.say("%s, with the capabilities that are needed", who))
	case m.uid != 0:
		all = append(all, warned.say("%s, without %s: sockets of other users can't be taken over, and who is connected to them can't be told; run it as root",
			who, strings.Join(missing, ", ")))
	default:
		for _, c := range needed {
			if !m.has(c.bit) {
				all = append(all, warned.say("root without %s: %s; add it (securityContext: capabilities: add, or privileged: true; docker --cap-add)", c.name, c.use))
			}
		}
	}
	if m.nested {
		all = append(all, warned.say("in a user namespace: its root is root over what is its own, and nobody elsewhere; run it outside (hostUsers: true)"))
	}
	return all
}

func (m machine) kernelFindings() (all []finding) {
	if m.untried != nil {
		return []finding{warned.say("kernel %s; what it allows can't be told, for want of a directory to try it in: %v; set TMPDIR to one that can be written", m.kernel, m.untried)}
	}
	var works []string
	for _, a := range m.abilities {
		switch {
		case a.Err == nil:
			works = append(works, a.Call)
		case errors.Is(a.Err, unix.ENOSPC), errors.Is(a.Err, unix.EMFILE):
			all = append(all, failed.say("%s: %v; %s", a.Call, a.Err, a.For))
		default:
			all = append(all, failed.say("kernel %s refuses %s: %v; %s; it is in Linux %s and newer, where no seccomp filter forbids it (seccompProfile: type: Unconfined)",
				m.kernel, a.Call, a.Err, a.For, a.Min))
		}
	}
	if len(works) > 0 {
		all = append([]finding{fine.say("kernel %s: %s", m.kernel, strings.Join(works, ", "))}, all...)
	}
	return all
}

// enoughFiles is a hard limit that no node needs more than: a relay has two
// for each connection, and there are tens of them.
const enoughFiles = 1024

func (m machine) fileLimit() []finding {
	switch {
	case m.files == 0:
		return []finding{noted.say("how many open files a process may have can't be told")}
	case m.files < enoughFiles:
		return []finding{warned.say("a process may have %d open files at most: a relay needs two for each connection, and has no room for more; raise it (ulimit -Hn %d; LimitNOFILE= of a unit)",
			m.files, enoughFiles)}
	case m.files == unix.RLIM_INFINITY:
		return []finding{fine.say("a process may have any number of open files")}
	}
	return []finding{fine.say("a process may have %d open files, and a relay needs two for each connection", m.files)}
}

func (m machine) confined() (all []finding) {
	switch m.selinux {
	case "enforcing":
		all = append(all, noted.say("SELinux enforces: a relay's socket gets the label of the one that it stands for, and clients must be allowed to connect to this domain, %s; "+
			"if they get 'permission denied': ausearch -m avc -ts recent", orUnknown(m.domain)))
	case "permissive":
		all = append(all, fine.say("SELinux is permissive: it forbids nothing"))
	}
	switch profile, mode, _ := strings.Cut(m.apparmor, " "); {
	case m.apparmor == "":
	case profile == "unconfined", mode == "(complain)", mode == "(unconfined)":
		all = append(all, fine.say("AppArmor does not confine it (%s)", m.apparmor))
	default:
		all = append(all, warned.say("AppArmor confines it by the profile %s: what that forbids can't be told before it is tried; "+
			"run it without (appArmorProfile: type: Unconfined; docker --security-opt apparmor=unconfined), or look for denials: dmesg | grep DENIED", m.apparmor))
	}
	if len(all) == 0 {
		all = append(all, fine.say("neither SELinux nor AppArmor is in use here"))
	}
	return all
}

func orUnknown(s string) string {
	if s == "" {
		return "which can't be told"
	}
	return s
}
