package call

import "time"

// PhaseKind is what a Phase is, in the words of its span's name.
type PhaseKind string

const (
	PodStart PhaseKind = "pod start"
	PodStop  PhaseKind = "pod stop"
	// ContainerRestart began as a stop does, and turned out to be none: a
	// container was stopped and made anew.
	ContainerRestart PhaseKind = "container restart"
)

// Outcome is how a Phase ended.
type Outcome string

const (
	Started   Outcome = "started"   // a container at least, and nothing more followed or failed
	GaveUp    Outcome = "gave up"   // the pod went before any of its containers had started
	Capped    Outcome = "capped"    // it took too long, or too many calls
	Stopped   Outcome = "stopped"   // its sandboxes are gone, its volumes unpublished
	Restarted Outcome = "restarted" // the container runs again
	// Unfinished: it had not ended when we did.
	Unfinished Outcome = "unfinished"
)

// Phase is a pod's start or stop as a whole: the calls that it took, under one
// root span. It is told once, when it has ended, and not changed any more.
type Phase struct {
	Kind            PhaseKind
	Pod             Pod
	TraceID, SpanID string
	Begin, End      time.Time
	Outcome         Outcome
	Sampled         bool // its root span is exported

	Steps []Step // in the order in which they were completed

	// Calls are Count of the phase's calls in the order in which they ended; the
	// ones in the middle are left out where these were too many.
	Calls       []PhaseCall
	Count       int
	Failures    int
	LastFailure Failure

	// Links are spans in other traces that belong to this phase: one of each
	// trace of a caller's own, and for a stop the pod's start.
	Links []Link
}

// Step is how far into a phase the last of its calls of one kind succeeded.
type Step struct {
	Name string // "containers_started"
	Took time.Duration
}

// PhaseCall is a call in short.
type PhaseCall struct {
	Method   string
	Subject  string // the volume, image or container that it was about
	Start    time.Time
	Duration time.Duration
	Code     string // empty where the call was lost
	Failed   bool
	Note     string // of a failure: the last line of its message
}

// Failure is what went wrong last.
type Failure struct {
	Method, Subject, Code, Message string
}

// Link is a span in another trace.
type Link struct{ TraceID, SpanID string }

// Failing says, while a phase goes on, that it is failing. It is a short span
// under the phase's root.
type Failing struct {
	Kind                          PhaseKind
	Pod                           Pod
	TraceID, SpanID, ParentSpanID string
	Begin, End                    time.Time // the end of the call that failed, and when this was said
	Failures                      int       // so far
	Failure
}

// Name is "pod start NS/NAME", or as much of it as is known.
func (p *Phase) Name() string { return phaseName(p.Kind, p.Pod) }

// Name is that of the phase and "failing".
func (f *Failing) Name() string { return phaseName(f.Kind, f.Pod) + " failing" }

func phaseName(kind PhaseKind, p Pod) string {
	name := p.Name
	if name == "" {
		name = p.UID
	} else if p.Namespace != "" {
		name = p.Namespace + "/" + name
	}
	return string(kind) + " " + name
}

// Failed: the phase did not come to its end.
func (p *Phase) Failed() bool { return p.Outcome == GaveUp || p.Outcome == Capped }

// Took is the phase's length.
func (p *Phase) Took() time.Duration { return p.End.Sub(p.Begin) }
