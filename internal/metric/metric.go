// Package metric counts calls and pods' starts, and says how we ourselves are, for
// Prometheus to scrape.
//
//	Record, Phase ──▶ histograms, with exemplars ─┐
//	Health, asked for at each scrape ─────────────┴─▶ /metrics   /healthz   /readyz
//
// Three rules. Every record is counted once, whatever becomes of its span. No label
// takes an unbounded value: what is one too many, too long, or that nobody knows, is
// "_OTHER", which is semconv's word for it. And an exemplar leads somewhere: only a
// span that is exported is one.
//
// docs/metrics.md is the table; change both. Prometheus' own global registry is
// left alone.
package metric

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// other stands for the values that a label does not take.
const other = "_OTHER"

// Metrics are those of a process.
type Metrics struct {
	registry *prometheus.Registry
	calls    *calls
	starts   *starts
}

// New makes metrics. health is asked at each scrape, in any goroutine.
func New(version, commit string, health func() Health) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), calls: newCalls(), starts: newStarts()}
	m.registry.MustRegister(
		m.calls, m.starts, newOwn(health), built(version, commit),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Records implements tap.Sink: it is called by one goroutine at a time. A call that
// still runs is not counted yet.
func (m *Metrics) Records(all []*call.Record) {
	for _, r := range all {
		if r.State != call.Running {
			m.calls.count(r)
		}
	}
}

// Phases counts those that are pods' starts.
func (m *Metrics) Phases(ended []*call.Phase) {
	for _, p := range ended {
		if p.Kind == call.PodStart {
			m.starts.count(p)
		}
	}
}

// built says what we are, in labels of a number that is always one.
func built(version, commit string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "grpc_tap_build_info",
		Help:        "Version, commit and Go release of this grpc-tap; always 1.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
}

// observe counts one of so many seconds, with the span that shows why it took them.
func observe(to prometheus.Observer, seconds float64, sampled bool, traceID, spanID string) {
	if to, ok := to.(prometheus.ExemplarObserver); ok && sampled && len(traceID) == 32 && len(spanID) == 16 {
		to.ObserveWithExemplar(seconds, prometheus.Labels{"trace_id": traceID, "span_id": spanID})
		return
	}
	to.Observe(seconds)
}
