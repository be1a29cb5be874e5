package takeover

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"
)

// When a connection and its server are at rest. Each number is an interval that
// something must hold for.
const (
	// quietFor: nothing lies in either queue.
	quietFor = 250 * time.Millisecond
	// restFor: the server has not run. Go's sysmon, which finds the goroutines that
	// wait for a processor, looks every 10 ms at least for as long as not all
	// processors are idle (runtime/proc.go). A process that did not run for longer
	// has none that could go on.
	restFor = 12 * time.Millisecond
	// lateBy: we have not run, so that nobody knows what passed.
	lateBy = 20 * time.Millisecond
	// crowded: the share of a window in which somebody waited for a processor, in
	// percent.
	crowded = 20
	// windowFor: how far back crowded looks, at most.
	windowFor = time.Second
)

// Why it is not the moment. The last one is what a person is told.
var (
	errQueued  = errors.New("bytes were under way")
	errAtWork  = errors.New("its server was at work")
	errCrowded = errors.New("the machine was busy")

	moments = []error{errQueued, errAtWork, errCrowded}
)

// sample is what can be seen of a connection at a moment.
type sample struct {
	at     time.Time
	queued bool          // in one of its queues
	ran    time.Duration // how long its server has run so far
	waited time.Duration // how long somebody on this machine has waited for a processor so far
}

// quiet looks at samples, in their order, for the moment.
type quiet struct {
	window sample // the first of those with empty queues
	why    error  // it is no older
	rest   sample // the first since the server has run
	last   sample
}

// add returns nil if this is the moment, or else why not. Between two samples a
// call may pass unseen, which does no harm: what counts is that the server is
// between two frames now, and that is what its rest says. The queues' quiet keeps
// off from clients that call all the time.
func (q *quiet) add(s sample) error {
	late := s.at.Sub(q.last.at) > lateBy // the first one too
	if late || s.ran != q.last.ran {
		q.rest = s
	}
	q.last = s
	age := s.at.Sub(q.window.at)
	switch {
	case late, (s.waited-q.window.waited)*100 > max(age, quietFor)*crowded:
		return q.again(errCrowded)
	case s.queued:
		return q.again(errQueued)
	case age < quietFor:
		return q.why
	case s.at.Sub(q.rest.at) >= restFor:
		return nil
	case age > windowFor:
		return q.again(errAtWork)
	}
	return errAtWork
}

// again starts over, and says why.
func (q *quiet) again(why error) error {
	q.window, q.why = q.last, why
	return why
}

// waited is how long somebody on this machine has waited for a processor since
// boot: 0 where the kernel doesn't tell (before Linux 4.20, or without PSI).
func waited() time.Duration {
	b, _ := os.ReadFile("/proc/pressure/cpu")
	line, _, _ := strings.Cut(string(b), "\n")
	_, total, _ := strings.Cut(line, "total=")
	us, _ := strconv.ParseInt(total, 10, 64)
	return time.Duration(us) * time.Microsecond
}
