package main

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

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
