package metric

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// startSeconds reach as far as a start is followed.
var startSeconds = []float64{.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 300, 600, 900}

// starts is the histogram of pods' starts. Which pod it was the exemplar's trace
// says: names of pods are without bound.
type starts struct{ *prometheus.HistogramVec }

func newStarts() *starts {
	s := &starts{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "grpc_tap_pod_start_duration_seconds",
		Help:    "How long pods took to start, from the first call for a pod until its last container ran, or it gave up.",
		Buckets: startSeconds,
	}, []string{"outcome"})}
	// A series that begins at one has no increase: the first would be missed.
	for _, outcome := range []call.Outcome{call.Started, call.GaveUp, call.Capped, call.Unfinished} {
		s.WithLabelValues(string(outcome))
	}
	return s
}

func (s *starts) count(p *call.Phase) {
	observe(s.WithLabelValues(string(p.Outcome)), p.Took().Seconds(), p.Sampled, p.TraceID, p.SpanID)
}
