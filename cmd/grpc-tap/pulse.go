package main

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// standsStill is how long a loop may take for a step: more than any that ends takes.
const standsStill = time.Minute

// pulse is how a loop goes on. A nil one is that of none.
type pulse struct {
	mu    sync.Mutex
	last  time.Time // a step
	whole bool      // it went round once
	lacks error     // what it looks for, and has not found

	refused error // the settings that it was to go on with
}

// step says that a part of a round is done.
func (p *pulse) step(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = now
}

// round says that all of it is.
func (p *pulse) round(now time.Time) {
	p.step(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.whole = true
}

// lack says what was not found the last time round.
func (p *pulse) lack(what error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lacks = what
}

// refuse says that there are newer settings, and why they are not taken.
func (p *pulse) refuse(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = why
}

// ready says that it has not come to everything yet, or not found it.
func (p *pulse) ready() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.whole {
		return errors.New("the node's sockets have not been looked at yet")
	}
	return errors.Join(p.lacks, p.refused)
}

// alive says that it stands still.
func (p *pulse) alive(now time.Time) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if still := now.Sub(p.last); still > standsStill {
		return fmt.Errorf("the node's sockets have not been looked at for %v", still.Round(time.Second))
	}
	return nil
}
