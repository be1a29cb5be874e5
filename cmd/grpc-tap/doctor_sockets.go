package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/discover"
)

// tappable says whether attach would take it, if it is asked to take all.
func (s socketFacts) tappable() bool {
	return !s.Dead && !slices.Contains([]string{"", "unknown", "ttrpc"}, s.Speaks) && !s.watched()
}

// watched sockets are the kubelet's and its plugins', which attach leaves alone.
func (s socketFacts) watched() bool {
	return s.Kind == discover.DevicePlugin || s.Kind == discover.Registration
}

// wanted says whether attach takes it without being asked for more.
func (s socketFacts) wanted() bool { return s.Kind == discover.CRI || s.Kind == discover.CSI }

func (s socketFacts) tapped() bool { return s.traces.By != 0 || s.traces.Taken }

// blocked is the level of what keeps a socket from being taken over.
func (s socketFacts) blocked() level {
	if s.wanted() {
		return failed
	}
	return warned
}

// who says in a title what the socket is and who serves it.
func (s socketFacts) who() string {
	what := string(s.Kind)
	if !s.Dead && s.Speaks != "" && s.Speaks != "unknown" {
		what = speaks(s.Socket)
	}
	if len(s.Servers) == 0 {
		return what
	}
	return what + ", " + servers(s.Socket)
}

// findings of a socket, most of which are about taking it over.
func (s socketFacts) findings(m machine) []finding {
	switch {
	case s.Dead && s.traces.Astray:
		return s.traceFindings()
	case s.Dead:
		return append(s.traceFindings(), s.dead())
	case s.watched():
		return append(s.traceFindings(), noted.say("left alone by attach: the kubelet watches its directory, and takes what appears there for a plugin"))
	case s.Speaks == "ttrpc":
		return append(s.traceFindings(), noted.say("it speaks ttrpc, not gRPC: it can't be tapped"))
	case !s.tappable():
		return append(s.traceFindings(), s.unanswered())
	}
	all := s.traceFindings()
	if s.Err != nil {
		all = append(all, warned.say("not all of it can be told: %v", s.Err))
	}
	if s.siteErr != nil {
		return append(all, finding{s.blocked(), fmt.Sprintf("it can't be looked at: %v", s.siteErr)})
	}
	if s.traces.Taken && s.traces.By != 0 {
		return all // what a takeover needs is not asked any more: in an agent's pod it is not there
	}
	return append(append(all, s.siteFindings(m)...), s.clientFindings()...)
}

func (s socketFacts) dead() finding {
	if s.wanted() {
		return warned.say("nobody serves it: its server is down, or left it behind; attach leaves it out until it is served again")
	}
	return noted.say("nobody serves it: its server is down, or left it behind")
}

// unanswered is of a server that does not speak, or may not be spoken to.
func (s socketFacts) unanswered() finding {
	switch {
	case errors.Is(s.Err, unix.EACCES):
		return finding{s.blocked(), "it may not be dialled (permission denied), so that it can't be told who serves it; run it as root"}
	case s.wanted():
		return warned.say("it does not answer as a gRPC server, and attach leaves it out: %v", orNil(s.Err))
	}
	return noted.say("it does not answer as a gRPC server, and attach leaves it out: %v", orNil(s.Err))
}

func orNil(err error) string {
	if err == nil {
		return "why can't be told"
	}
	return err.Error()
}

// siteFindings are about the place where names will be exchanged.
func (s socketFacts) siteFindings(m machine) (all []finding) {
	dir := filepath.Dir(s.Path)
	no := func(format string, args ...any) { all = append(all, s.blocked().say(format, args...)) }
	switch err := s.site.Write; {
	case errors.Is(err, unix.EROFS) && m.inPod:
		all = append(all, warned.say("%s is read-only here: attach can't take it from this container; an agent's relay can, which runs on the node", dir))
	case errors.Is(err, unix.EROFS):
		no("%s is read-only: the relay's socket can't be put there; make it writable (in a container: mount it without readOnly)", dir)
	case errors.Is(err, unix.EACCES):
		no("%s may not be written: the relay's socket can't be put there; run it as root", dir)
	case err != nil:
		no("%s can't be written (%v): the relay's socket can't be put there; if it is immutable: chattr -i %[1]s", dir, err)
	}
	if s.site.Mounted {
		no("it is a mount point, which can't be renamed: the socket is mounted as a file; in a container, mount its directory instead")
	}
	if s.site.Full {
		no("the file system of %s is full: there is no room for the relay's socket; free some (df -h -i %[1]s)", dir)
	}
	if need := s.owner(m); need != "" && s.site.Write == nil {
		no("%s", need) // else enough is said
	}
	if len(all) == 0 && !s.tapped() {
		all = append(all, fine.say("it can be taken over: its directory can be written, nothing is mounted on it"))
	}
	if s.site.FileSystem != "" {
		all = append(all, warned.say("%s is on %s, which may not be able to exchange two names; only attach can tell, and it leaves all as it was if not", dir, s.site.FileSystem))
	}
	if !s.site.Recognised {
		all = append(all, noted.say("its file system does not tell a socket from a later one with the same inode number; it matters only after a relay and its guard were killed at once"))
	}
	return all
}

// owner says what keeps the relay's socket from having this one's owner and mode.
func (s socketFacts) owner(m machine) string {
	switch {
	case s.site.UID == m.uid && slices.Contains(m.groups, s.site.GID):
		return ""
	case !m.has(unix.CAP_CHOWN):
		return fmt.Sprintf("it belongs to %d:%d, and without CAP_CHOWN the relay's socket can't be given to them; run it as root, with that capability", s.site.UID, s.site.GID)
	case s.site.UID != m.uid && !m.has(unix.CAP_FOWNER):
		return fmt.Sprintf("it belongs to uid %d, and without CAP_FOWNER the relay's socket can't be given its mode; run it as root, with that capability", s.site.UID)
	}
	return ""
}

// clientFindings are about who will not be seen.
func (s socketFacts) clientFindings() (all []finding) {
	if s.tapped() {
		return nil // they are seen, or the relay has said which are not
	}
	if len(s.clients) > 0 {
		how := "as when they are restarted"
		if slices.ContainsFunc(s.clients, func(p discover.Process) bool { return filepath.Base(p.Exe) == "kubelet" }) {
			how = "as when they are restarted (systemctl restart kubelet: pods go on running)"
		}
		all = append(all, warned.say("connected to it already, and not seen until they dial anew, %s: %s", how, names(s.clients)))
	}
	switch {
	case s.clientsErr != nil:
		all = append(all, noted.say("not everybody who is connected to it already can be told: %v", s.clientsErr))
	case len(s.clients) == 0:
		all = append(all, fine.say("nobody is connected to it now: every client will be seen from its first call"))
	}
	return all
}

func names(ps []discover.Process) string {
	var all []string
	for _, p := range ps {
		all = append(all, servers(discover.Socket{Servers: []discover.Process{p}}))
	}
	return few(all)
}

// findings about all sockets together, and those that there are not.
func (n node) findings() (all []finding) {
	if n.missing != nil {
		all = append(all, failed.say("--kubelet-dir: %v; give the kubelet's --root-dir", n.missing))
	}
	if n.err != nil {
		all = append(all, warned.say("not every place could be looked into: %v", n.err))
	}
	kinds := map[discover.Kind]int{}
	for _, s := range n.sockets {
		if s.tappable() || s.traces.Astray || errors.Is(s.Err, unix.EACCES) { // of the others, enough is said
			kinds[s.Kind]++
		}
	}
	switch {
	case kinds[discover.CRI]+kinds[discover.CSI] == 0:
		all = append(all, failed.say("no runtime and no CSI driver answers: there is nothing to attach to; looked at %s; a socket elsewhere: grpc-tap attach PATH", strings.Join(n.places, ", ")))
	case kinds[discover.CRI] == 0:
		all = append(all, warned.say("no runtime answers: attach will show CSI calls only; looked at %s; a socket elsewhere: grpc-tap attach PATH", strings.Join(n.places, ", ")))
	case kinds[discover.CSI] == 0:
		all = append(all, noted.say("no CSI driver answers: attach will show the runtime's calls only"))
	}
	return all
}

// few keeps a line readable.
func few(all []string) string {
	const enough = 5
	if len(all) <= enough {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s, and %d more", strings.Join(all[:enough], ", "), len(all)-enough)
}
