package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// story is a sink that remembers what failed, and whether and when it then
// succeeded, for the few lines that end a demo.
type story struct {
	order []subject
	fails map[subject]*failure
}

// maxStory bounds the failures that are remembered: the last ones.
const maxStory = 20

// subject is what a retry is about: the same method for the same pod.
type subject struct{ method, pod string }

type failure struct {
	times     int
	first     time.Time
	code      string
	last      string // line of the message: what the program at the bottom said
	recovered time.Time
}

// Records implements tap.Sink.
func (s *story) Records(all []*call.Record) {
	for _, r := range all {
		s.record(r)
	}
}

func (s *story) record(r *call.Record) {
	if r.Pod.Name == "" || r.Code == "CANCELLED" { // a cancel is the caller's own doing
		return
	}
	about := subject{r.Method, r.Pod.Namespace + "/" + r.Pod.Name}
	f := s.fails[about]
	switch {
	case !r.Failed() && f != nil:
		if f.recovered.IsZero() {
			f.recovered = r.End()
		}
	case !r.Failed():
	case f == nil:
		if s.fails == nil {
			s.fails = map[subject]*failure{}
		}
		f = &failure{first: r.Start}
		s.fails[about] = f
		if s.order = append(s.order, about); len(s.order) > maxStory {
			delete(s.fails, s.order[0])
			s.order = s.order[1:]
		}
		fallthrough
	default:
		f.times++
		f.code, f.recovered = r.Code, time.Time{}
		if r.State == call.Lost {
			f.code = "LOST"
		}
		lines := strings.Split(strings.TrimSpace(r.Message), "\n")
		f.last = lines[len(lines)-1]
	}
}

// tell says each failure in a line.
func (s *story) tell(say func(string)) {
	for _, about := range s.order {
		f := s.fails[about]
		line := fmt.Sprintf("what went wrong: %s of %s failed %s (%s: %q)", about.method, about.pod, times(f.times), f.code, f.last)
		if !f.recovered.IsZero() {
			line += fmt.Sprintf(" and succeeded %.1f s after the first try began", f.recovered.Sub(f.first).Seconds())
		}
		say(line)
	}
}

func times(n int) string {
	if n == 2 {
		return "twice"
	}
	return plural(uint64(n), "time")
}
