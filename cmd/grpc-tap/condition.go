package main

import (
	"errors"
	"fmt"
	"sync"

	"github.com/grpc-tap/grpc-tap/internal/metric"
)

// What happens to a path that is taken over. docs/metrics.md is the table.
const (
	pathTaken  = "taken"   // a relay of ours has it, or has it again
	pathJoined = "joined"  // a relay that stands there is read
	pathAway   = "away"    // its relay has left it for a while
	pathGaveUp = "gave_up" // its relay has given it back for good
	pathDied   = "died"    // its relay has died
	pathFailed = "failed"  // it could not be taken
)

// condition is how a path stands, which may be asked at any time.
type condition struct {
	socket string

	mu      sync.Mutex
	why     string            // it is not served or read; "": it is
	was     bool              // served or read, once
	results map[string]uint64 // nil: it is not taken over
}

func newCondition(e endpoint) *condition {
	s := &condition{socket: e.path, why: "is not served yet"}
	switch {
	case e.stands:
		s.results = map[string]uint64{pathJoined: 0, pathAway: 0, pathDied: 0, pathFailed: 0}
	case e.taken:
		s.results = map[string]uint64{pathTaken: 0, pathAway: 0, pathGaveUp: 0, pathDied: 0, pathFailed: 0}
	}
	return s
}

// turned says what happened, "" for nothing that is counted, and why the path is
// not served or read since, "" where it is.
func (s *condition) turned(result, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = why
	s.was = s.was || why == ""
	if s.results != nil && result != "" {
		s.results[result]++
	}
}

// ended says that nothing follows any more.
func (s *condition) ended(err error) {
	switch {
	case err == nil:
		s.turned("", "is over")
	case errors.Is(err, errGaveUp):
		s.turned(pathGaveUp, "is given back")
	case s.everServed():
		s.turned(pathDied, err.Error())
	default:
		s.turned(pathFailed, err.Error())
	}
}

func (s *condition) everServed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.was
}

func (s *condition) where() string { return s.socket }

// ready is why the path is not served or read; nil: it is.
func (s *condition) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == "" {
		return nil
	}
	return fmt.Errorf("%s: %s", s.socket, s.why)
}

func (s *condition) takeovers() map[metric.Takeover]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[metric.Takeover]uint64{}
	for result, times := range s.results {
		n[metric.Takeover{Socket: s.socket, Result: result}] = times
	}
	return n
}
