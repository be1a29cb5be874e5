package main

import (
	"testing"
	"time"
)

// A loop is ready once it went round, and alive as long as it steps.
func TestPulse(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	p := &pulse{last: now}
	holds := func(what string, ready, alive bool) {
		t.Helper()
		if r, a := p.ready() == nil, p.alive(now) == nil; r != ready || a != alive {
			t.Errorf("%s: ready %t, alive %t", what, r, a)
		}
	}
	holds("at first", false, true)
	now = now.Add(standsStill)
	p.step(now)
	holds("on its way", false, true)
	p.round(now)
	holds("after a round", true, true)
	now = now.Add(standsStill)
	holds("for a while", true, true)
	now = now.Add(time.Second)
	holds("standing still", true, false)
	p.step(now)
	holds("on its way again", true, true)
	if p = nil; p.ready() != nil || p.alive(now) != nil {
		t.Error("no loop stands still")
	}
}
