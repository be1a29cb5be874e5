package metric

import (
	"cmp"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// Health is what our own parts say of themselves at a moment. Who makes it sees to
// it that the keys, which are labels' values, are few. A nil map: there is nothing
// of that kind.
type Health struct {
	Running        map[string]int       // calls that have not ended, by method; "" are those of methods that nobody knows
	Oldest         map[string]time.Time // when the first of those began, by method; of streams and of methods that nobody knows nothing is said
	Connections    map[string]int       // that are open, by state
	Ready          map[string]bool      // paths, by one of Sockets: that one is served, or its relay read
	MirrorDropped  uint64               // bytes
	DecodeErrors   map[string]uint64
	RecordsDropped map[string]uint64 // by sink
	CallsOverLimit uint64
	PodsEvicted    uint64
	Takeovers      map[Takeover]uint64
	Sampled        map[string]uint64 // calls, by what was decided of their spans
	Spans          *Spans            // nil: none are exported
}

// Spans are what became of spans.
type Spans struct {
	Exported uint64
	Dropped  map[string]uint64 // by reason
}

// Takeover is what happened to a path. Socket is one of Sockets.
type Takeover struct{ Socket, Result string }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("grpc_tap_"+name, help, labels, nil)
}

// descs are those of our own metrics. They are made with the collector: the relay,
// a process of the same binary, does not pay for them.
type descs struct {
	running, oldest, connections, ready, mirrorDropped, decodeErrors, recordsDropped, callsOverLimit, podsEvicted, takeovers, sampled, exported, spansDropped *prometheus.Desc
}

func newDescs() descs {
	return descs{
		running:        desc("calls_running", "Calls that have not ended.", "rpc_method"),
		oldest:         desc("oldest_call_seconds", "For how long the oldest call that has not ended, and is no stream, has run.", "rpc_method"),
		connections:    desc("connections", "Open connections: decoded, blind (relayed, but not decodable any more, or older than the tap), opaque (no gRPC), bypassed (past the relay).", "state"),
		ready:          desc("socket_ready", "Whether a path is served, or its relay read: 1 or 0.", "socket"),
		mirrorDropped:  desc("mirror_dropped_bytes_total", "Bytes that were relayed but did not fit the queue to the tap."),
		decodeErrors:   desc("decode_errors_total", "Connections that could not be decoded any further, by reason.", "token"),
		recordsDropped: desc("records_dropped_total", "Records that a sink was too slow for.", "sink"),
		callsOverLimit: desc("calls_over_limit_total", "Calls that were relayed but not recorded, since too many of their connection had not ended."),
		podsEvicted:    desc("pods_evicted_total", "Pods whose starts and stops were followed no further, since there were too many."),
		takeovers:      desc("takeovers_total", "What happened to paths: taken, joined, away, gave_up, died, failed.", "socket", "result"),
		sampled:        desc("calls_sampled_total", "Calls by what was decided of their spans: why one is exported, or declined.", "decision"),
		exported:       desc("spans_exported_total", "Spans that the collector has taken."),
		spansDropped:   desc("spans_dropped_total", "Spans that did not get to the collector, by reason.", "reason"),
	}
}

// own makes metrics of what is asked at a scrape.
type own struct {
	descs
	ask   func() Health
	since time.Time // when all was zero: an agent that reads its settings anew begins anew
}

func newOwn(ask func() Health) own { return own{newDescs(), ask, time.Now()} }

// Describe implements prometheus.Collector.
func (o own) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{o.running, o.oldest, o.connections, o.ready, o.mirrorDropped, o.decodeErrors, o.recordsDropped, o.callsOverLimit, o.podsEvicted, o.takeovers, o.sampled, o.exported, o.spansDropped} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (o own) Collect(to chan<- prometheus.Metric) {
	h := o.ask()
	gauge := func(d *prometheus.Desc, n float64, label string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, label)
	}
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetricWithCreatedTimestamp(d, prometheus.CounterValue, float64(n), o.since, labels...)
	}
	for method, n := range h.Running {
		gauge(o.running, float64(n), cmp.Or(method, other))
	}
	for method, began := range h.Oldest {
		gauge(o.oldest, max(0, time.Since(began).Seconds()), method)
	}
	for state, n := range h.Connections {
		gauge(o.connections, float64(n), state)
	}
	for socket, ready := range h.Ready {
		n := 0.0
		if ready {
			n = 1
		}
		gauge(o.ready, n, socket)
	}
	counter(o.mirrorDropped, h.MirrorDropped)
	for token, n := range h.DecodeErrors {
		counter(o.decodeErrors, n, token)
	}
	for sink, n := range h.RecordsDropped {
		counter(o.recordsDropped, n, sink)
	}
	counter(o.callsOverLimit, h.CallsOverLimit)
	counter(o.podsEvicted, h.PodsEvicted)
	for t, n := range h.Takeovers {
		counter(o.takeovers, n, text(t.Socket), t.Result)
	}
	for decision, n := range h.Sampled {
		counter(o.sampled, n, decision)
	}
	if h.Spans == nil {
		return
	}
	counter(o.exported, h.Spans.Exported)
	for reason, n := range h.Spans.Dropped {
		counter(o.spansDropped, n, reason)
	}
}

// Sockets are the values of the label socket: few over a process' life, whatever comes
// and goes. Its zero value has seen none.
type Sockets struct {
	mu   sync.Mutex
	seen few
}

// Label is the label's value for a path.
func (s *Sockets) Label(path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.most = maxSockets
	return s.seen.of(text(path))
}

// text is a path as a label's value: of a path that is no text, which a label does not
// take, its quoted form.
func text(path string) string {
	if utf8.ValidString(path) {
		return path
	}
	return strconv.Quote(path)
}
