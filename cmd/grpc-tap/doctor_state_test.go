package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

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
