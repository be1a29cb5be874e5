package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

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
