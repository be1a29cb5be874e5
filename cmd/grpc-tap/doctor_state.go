package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

// state is what earlier runs and the node's operator have left.
type state struct {
	dir       string
	now       time.Time
	disabled  error // the kill switch
	reset     bool  // the deaths were to be forgotten
	forgotten int
	resetErr  error
	deaths    []takeover.Death
	deathsErr error
	tripped   error // too many of them
	unwritten error // why the next death could not be written down

	left      []leftover
	holders   []takeover.Holder
	holderErr error
	root      bool // mounts of all processes could be seen
}

// leftover is a path with something of grpc-tap's at it or beside it.
type leftover struct {
	path   string
	traces takeover.Traces
	err    error
}

func (d *doctor) gatherState() state {
	s := state{dir: d.stateDir, now: time.Now(), reset: d.reset, root: os.Geteuid() == 0}
	s.deaths, s.deathsErr = takeover.Deaths(d.stateDir)
	if d.reset {
		if s.resetErr = takeover.Reset(d.stateDir); s.resetErr == nil {
			s.forgotten, s.deaths, s.deathsErr = len(s.deaths), nil, nil
		}
	}
	s.disabled, s.tripped = takeover.Disabled(d.stateDir), takeover.Tripped(d.stateDir)
	s.unwritten = unwritable(d.stateDir)
	for _, dir := range d.node.Dirs() {
		for _, path := range takeover.Find(dir) {
			l := leftover{path: path}
			l.traces, l.err = takeover.Trace(path)
			s.left = append(s.left, l)
		}
	}
	s.holders, s.holderErr = takeover.Mounted()
	return s
}

// unwritable says why no file can be made in a directory, or why it can't be
// made itself.
func unwritable(dir string) error {
	for {
		err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
		if !errors.Is(err, unix.ENOENT) || dir == filepath.Dir(dir) {
			return err
		}
		dir = filepath.Dir(dir)
	}
}

func (s state) findings(n node) []finding {
	all := append(s.switchFindings(), s.deathFindings()...)
	return append(append(all, s.leftFindings(n)...), s.holderFindings()...)
}

func (s state) switchFindings() []finding {
	if s.disabled != nil {
		return []finding{failed.say("the kill switch is on: %v", s.disabled)}
	}
	return []finding{fine.say("the kill switch is off: there is no %s", filepath.Join(s.dir, "disable"))}
}

func (s state) deathFindings() (all []finding) {
	switch {
	case s.resetErr != nil:
		all = append(all, failed.say("%v; run it as root", s.resetErr))
	case s.reset && s.forgotten == 0:
		all = append(all, fine.say("there was nothing to reset: no relay died"))
	case s.reset:
		all = append(all, fine.say("%s: forgotten", died(s.forgotten)))
	}
	recent := s.recent()
	switch {
	case s.tripped != nil:
		all = append(all, failed.say("%v; the last was %s", s.tripped, s.last()))
	case s.deathsErr != nil:
		all = append(all, warned.say("%v", s.deathsErr))
	case recent > 0:
		all = append(all, warned.say("%s within the last %.0f minutes; at %d nothing is taken over any more; the last was %s",
			died(recent), takeover.DeathsWithin.Minutes(), takeover.MaxDeaths, s.last()))
	case !s.reset:
		all = append(all, fine.say("no relay died within the last %.0f minutes", takeover.DeathsWithin.Minutes()))
	}
	if s.unwritten != nil {
		all = append(all, warned.say("%s can't be written (%v): if relays die it is not written down, and nothing keeps the next from starting; run it as root", s.dir, s.unwritten))
	}
	return all
}

func died(n int) string {
	return plural(uint64(n), "relay") + " died"
}

func (s state) recent() (n int) {
	for _, d := range s.deaths {
		if s.now.Sub(d.At) < takeover.DeathsWithin {
			n++
		}
	}
	return n
}

func (s state) last() string {
	if len(s.deaths) == 0 {
		return "not to be read"
	}
	d := s.deaths[len(s.deaths)-1]
	return fmt.Sprintf("%s, %v ago", d.Who, s.now.Sub(d.At).Round(time.Second))
}

// leftFindings are about paths that were not among the sockets found: those
// have been told of.
func (s state) leftFindings(n node) (all []finding) {
	for _, l := range s.left {
		if slices.ContainsFunc(n.sockets, func(f socketFacts) bool { return f.Path == l.path }) {
			continue
		}
		for _, f := range judge(l.path, l.traces, l.err) {
			all = append(all, f.level.say("%s: %s", l.path, f.text))
		}
	}
	nothing := "nothing of a grpc-tap lies beside any socket of this node"
	switch {
	case len(s.left) > 0:
	case n.err != nil:
		all = append(all, noted.say("%s, as far as its places can be looked into", nothing))
	default:
		all = append(all, fine.say("%s", nothing))
	}
	return all
}

func (s socketFacts) traceFindings() []finding { return judge(s.Path, s.traces, s.tracesErr) }

// judge says what grpc-tap has, or has left, at a path.
func judge(path string, t takeover.Traces, err error) []finding {
	switch {
	case err != nil:
		return []finding{noted.say("whether a grpc-tap is on it can't be told: %v", err)}
	case t.Astray:
		who := "a grpc-tap and its guard were killed here"
		if t.By > 1 {
			who = fmt.Sprintf("pid %d has taken it, and does not serve it", t.By)
		}
		return []finding{failed.say("%s: clients are refused, though its server is alive; say `grpc-tap restore %s`", who, path)}
	case t.By == 1:
		return []finding{noted.say("tapped already, by a process that can't be told from here; a second grpc-tap is refused; `grpc-tap restore %s` ends the first", path)}
	case t.By != 0 && t.Door != "":
		return []finding{noted.say("tapped already, by pid %d, a relay that stands by itself; grpc-tap attach reads it in its tap's place, until it ends", t.By)}
	case t.By != 0:
		return []finding{noted.say("tapped already, by pid %d; a second grpc-tap is refused; `grpc-tap restore %s` ends the first", t.By, path)}
	case !t.Any():
		return nil
	case t.Locked != nil:
		return []finding{noted.say("a grpc-tap is on it, or was killed there; which can't be told: %s: %v; run it as root", t.Lock, t.Locked)}
	case t.Taken:
		return []finding{warned.say("a grpc-tap and its guard were killed here, and its server is down: it takes the path back when it starts; `grpc-tap restore %s` removes what was left", path)}
	}
	var left []string
	for _, l := range append(slices.Clone(t.Left), t.Lock) {
		if l != "" {
			left = append(left, filepath.Base(l))
		}
	}
	return []finding{warned.say("a grpc-tap was killed here and left %s, which does no harm; `grpc-tap restore %s` removes it", strings.Join(left, ", "), path)}
}

func (s state) holderFindings() (all []finding) {
	if s.holderErr != nil {
		return []finding{noted.say("whether somebody has a relay's socket mounted can't be told: %v", s.holderErr)}
	}
	for _, h := range s.holders {
		all = append(all, warned.say("%s", mountedBy(h)))
	}
	if len(all) == 0 {
		seen := "nobody has a relay's socket mounted as a file"
		if !s.root {
			return []finding{noted.say("%s, as far as that can be told without being root", seen)}
		}
		all = append(all, fine.say("%s", seen))
	}
	return all
}
