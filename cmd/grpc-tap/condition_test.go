package main

import (
	"errors"
	"fmt"
	"maps"
	"testing"
)

// What happens to a path is counted, and whether it is served can be asked.
func TestCondition(t *testing.T) {
	inUse := endpoint{path: "/s", taken: true}
	for name, c := range map[string]struct {
		of      endpoint
		happens func(*condition)
		counted map[string]uint64
		why     string
	}{
		"at first": {inUse, func(*condition) {}, nil, "/s: is not served yet"},
		"taken":    {inUse, func(c *condition) { c.turned(pathTaken, "") }, map[string]uint64{"taken": 1}, ""},
		"its server is restarted": {inUse, func(c *condition) { c.turned(pathTaken, ""); c.turned(pathAway, "is off"); c.turned(pathTaken, "") },
			map[string]uint64{"taken": 2, "away": 1}, ""},
		"can't be taken": {inUse, func(c *condition) { c.ended(errors.New("no")) }, map[string]uint64{"failed": 1}, "/s: no"},
		"its relay died": {inUse, func(c *condition) { c.turned(pathTaken, ""); c.ended(errors.New("died")) }, map[string]uint64{"taken": 1, "died": 1}, "/s: died"},
		"given back": {inUse, func(c *condition) { c.turned(pathTaken, ""); c.ended(fmt.Errorf("x: %w", errGaveUp)) },
			map[string]uint64{"taken": 1, "gave_up": 1}, "/s: is given back"},
		"over":             {inUse, func(c *condition) { c.turned(pathTaken, ""); c.ended(nil) }, map[string]uint64{"taken": 1}, "/s: is over"},
		"a relay stands":   {endpoint{path: "/s", stands: true}, func(c *condition) { c.turned(pathJoined, ""); c.turned("", "another reads") }, map[string]uint64{"joined": 1}, "/s: another reads"},
		"a path of ours":   {endpoint{path: "/s"}, func(c *condition) { c.turned(pathTaken, "") }, nil, ""},
		"one that is dead": {endpoint{path: "/s"}, func(c *condition) { c.turned(pathTaken, ""); c.ended(errors.New("died")) }, nil, "/s: died"},
	} {
		cond := newCondition(c.of)
		c.happens(cond)
		counted := map[string]uint64{}
		for of, n := range cond.takeovers() {
			if n > 0 {
				counted[of.Result] = n
			}
			if of.Socket != "/s" {
				t.Errorf("%s: of %s", name, of.Socket)
			}
		}
		why := ""
		if err := cond.ready(); err != nil {
			why = err.Error()
		}
		if !maps.Equal(counted, c.counted) || why != c.why {
			t.Errorf("%s: %v, %q; not %v, %q", name, counted, why, c.counted, c.why)
		}
	}
}
