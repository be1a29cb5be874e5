package main

import (
	"errors"
	"regexp"
	"strings"
	"time"
)

// guardWithin is how long a guard that is tried may take to say something. It
// says it within milliseconds, where the machine is not very busy.
const guardWithin = 3 * time.Second

var errGuardSilent = errors.New("the guard that was tried did not answer; try again when the machine is less busy")

// serverIn is what differs in a guard's reason from server to server.
var serverIn = regexp.MustCompile(`\(pid \d+\), .*?: the end of`)

// guardFindings says once what is so for several sockets.
func guardFindings(sockets []socketFacts, m machine) (all []finding) {
	var good int
	var order []string
	like := map[string][]socketFacts{}
	for _, s := range sockets {
		switch {
		case !s.guardTried:
		case s.guard == nil:
			good++
		default:
			why := serverIn.ReplaceAllString(s.guard.Error(), "")
			if like[why] == nil {
				order = append(order, why)
			}
			like[why] = append(like[why], s)
		}
	}
	if good > 0 {
		all = append(all, fine.say("it outlives the end of this container or login session (tried, for %s)", plural(uint64(good), "socket")))
	}
	for _, why := range order {
		all = append(all, guardFinding(like[why], m))
	}
	return all
}

// guardFinding is of sockets with the same reason.
func guardFinding(sockets []socketFacts, m machine) finding {
	l := warned
	var paths []string
	for _, s := range sockets {
		paths = append(paths, s.Path)
		if !errors.Is(s.guard, errGuardSilent) {
			l = max(l, s.blocked())
		}
	}
	why := sockets[0].guard.Error()
	if m.uid != 0 {
		why, _, _ = strings.Cut(why, "\n") // what it has tried in vain is of interest to root
	}
	return l.say("%s: %s", few(paths), why)
}
