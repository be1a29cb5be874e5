package sample

import "time"

// maxPaced bounds the things that a pace tells apart.
const maxPaced = 1024

// pace lets each of many things pass burst times at once, and then once in every.
// Time is the records' own, and may go back.
type pace struct {
	burst int64
	every time.Duration
	// due is, by a thing's hash, when it has its whole burst again. What is due says
	// nothing any more, and is dropped where room is needed.
	due map[uint64]int64
}

func newPace(burst int64, every time.Duration) pace {
	return pace{burst, every, make(map[uint64]int64, maxPaced)}
}

// pass says whether a thing may pass, and notes that it does.
func (p *pace) pass(thing uint64, at time.Time) bool {
	now, every := at.UnixNano(), int64(p.every)
	due, known := p.due[thing]
	if !known && len(p.due) >= maxPaced && !p.room(now) {
		thing = 0 // all newcomers are one, as long as there is none
		due = p.due[thing]
	}
	switch {
	case due < now, due > now+2*p.burst*every: // had its rest; the clock was set back
		due = now
	case due > now+(p.burst-1)*every:
		return false
	}
	p.due[thing] = due + every
	return true
}

// room drops what is due.
func (p *pace) room(now int64) bool {
	for thing, due := range p.due {
		if due < now {
			delete(p.due, thing)
		}
	}
	return len(p.due) < maxPaced
}
