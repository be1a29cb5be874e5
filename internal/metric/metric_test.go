package metric

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gathered is a Metrics that can be asked what it counts.
type gathered struct {
	*Metrics
	t      testing.TB
	health Health
}

func newForTest(t testing.TB) *gathered {
	g := &gathered{t: t}
	g.Metrics = New("v1", "c0ffee", func() Health { return g.health })
	return g
}

// family are a metric's series; nil: there is none.
func (g *gathered) family(name string) []*dto.Metric {
	g.t.Helper()
	all, err := g.registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f.GetMetric()
		}
	}
	return nil
}

// counts are calls by the values of their labels, in the order of labelNames.
func (g *gathered) counts() map[string]uint64 {
	n := map[string]uint64{}
	for _, s := range g.family("rpc_client_call_duration_seconds") {
		var values []string
		for _, name := range labelNames {
			for _, l := range s.GetLabel() {
				if l.GetName() == name && l.GetValue() != "" {
					values = append(values, l.GetValue())
				}
			}
		}
		n[strings.Join(values, " ")] += s.GetHistogram().GetSampleCount()
	}
	return n
}

func TestPodStarts(t *testing.T) {
	m := newForTest(t)
	begin := time.Unix(1_700_000_000, 0)
	trace, span := strings.Repeat("a", 32), strings.Repeat("b", 16)
	m.Phases([]*call.Phase{
		{Kind: call.PodStart, Outcome: call.Started, Begin: begin, End: begin.Add(4 * time.Second), TraceID: trace, SpanID: span, Sampled: true},
		{Kind: call.PodStart, Outcome: call.Started, Begin: begin, End: begin.Add(time.Second)},
		{Kind: call.PodStart, Outcome: call.GaveUp, Begin: begin, End: begin.Add(time.Minute)},
		{Kind: call.PodStop, Outcome: call.Stopped, Begin: begin, End: begin.Add(time.Second)},
		{Kind: call.ContainerRestart, Outcome: call.Restarted, Begin: begin, End: begin.Add(time.Second)},
	})
	got := m.family("grpc_tap_pod_start_duration_seconds")
	if len(got) != 4 {
		t.Fatalf("%d outcomes: %v", len(got), got)
	}
	capped, gaveUp, started, unfinished := got[0], got[1], got[2], got[3]
	if capped.GetHistogram().GetSampleCount() != 0 || unfinished.GetHistogram().GetSampleCount() != 0 {
		t.Errorf("%v, %v", capped, unfinished)
	}
	if gaveUp.GetLabel()[0].GetValue() != "gave up" || gaveUp.GetHistogram().GetSampleSum() != 60 || exemplars(gaveUp) != "" {
		t.Errorf("%v", gaveUp)
	}
	if h := started.GetHistogram(); h.GetSampleCount() != 2 || h.GetSampleSum() != 5 || exemplars(started) != "span_id="+span+" trace_id="+trace {
		t.Errorf("%v", started)
	}
}

// What our parts say is told as they say it.
func TestHealth(t *testing.T) {
	m := newForTest(t)
	m.health = Health{
		Running:        map[string]int{"runtime.v1.RuntimeService/Status": 2, "": 1},
		Oldest:         map[string]time.Time{"runtime.v1.RuntimeService/Status": time.Now().Add(time.Hour)}, // a clock that was set
		Connections:    map[string]int{"decoded": 3, "blind": 1},
		Ready:          map[string]bool{"/run/cri.sock": true, "/run/csi.sock": false},
		MirrorDropped:  1 << 40,
		DecodeErrors:   map[string]uint64{"mirror_overflow": 1},
		RecordsDropped: map[string]uint64{"stdout": 7},
		CallsOverLimit: 5,
		PodsEvicted:    6,
		Takeovers:      map[Takeover]uint64{{"/run/cri.sock", "taken"}: 2},
		Sampled:        map[string]uint64{"failed": 3, "declined": 9},
		Spans:          &Spans{Exported: 5, Dropped: map[string]uint64{"queue_full": 4}},
	}
	want := `
# HELP grpc_tap_calls_over_limit_total Calls that were relayed but not recorded, since too many of their connection had not ended.
# TYPE grpc_tap_calls_over_limit_total counter
grpc_tap_calls_over_limit_total 5
# HELP grpc_tap_calls_running Calls that have not ended.
# TYPE grpc_tap_calls_running gauge
grpc_tap_calls_running{rpc_method="_OTHER"} 1
grpc_tap_calls_running{rpc_method="runtime.v1.RuntimeService/Status"} 2
# HELP grpc_tap_calls_sampled_total Calls by what was decided of their spans: why one is exported, or declined.
# TYPE grpc_tap_calls_sampled_total counter
grpc_tap_calls_sampled_total{decision="declined"} 9
grpc_tap_calls_sampled_total{decision="failed"} 3
# HELP grpc_tap_connections Open connections: decoded, blind (relayed, but not decodable any more, or older than the tap), opaque (no gRPC), bypassed (past the relay).
# TYPE grpc_tap_connections gauge
grpc_tap_connections{state="blind"} 1
grpc_tap_connections{state="decoded"} 3
# HELP grpc_tap_decode_errors_total Connections that could not be decoded any further, by reason.
# TYPE grpc_tap_decode_errors_total counter
grpc_tap_decode_errors_total{token="mirror_overflow"} 1
# HELP grpc_tap_mirror_dropped_bytes_total Bytes that were relayed but did not fit the queue to the tap.
# TYPE grpc_tap_mirror_dropped_bytes_total counter
grpc_tap_mirror_dropped_bytes_total 1.099511627776e+12
# HELP grpc_tap_oldest_call_seconds For how long the oldest call that has not ended, and is no stream, has run.
# TYPE grpc_tap_oldest_call_seconds gauge
grpc_tap_oldest_call_seconds{rpc_method="runtime.v1.RuntimeService/Status"} 0
# HELP grpc_tap_pods_evicted_total Pods whose starts and stops were followed no further, since there were too many.
# TYPE grpc_tap_pods_evicted_total counter
grpc_tap_pods_evicted_total 6
# HELP grpc_tap_records_dropped_total Records that a sink was too slow for.
# TYPE grpc_tap_records_dropped_total counter
grpc_tap_records_dropped_total{sink="stdout"} 7
# HELP grpc_tap_socket_ready Whether a path is served, or its relay read: 1 or 0.
# TYPE grpc_tap_socket_ready gauge
grpc_tap_socket_ready{socket="/run/cri.sock"} 1
grpc_tap_socket_ready{socket="/run/csi.sock"} 0
# HELP grpc_tap_spans_dropped_total Spans that did not get to the collector, by reason.
# TYPE grpc_tap_spans_dropped_total counter
grpc_tap_spans_dropped_total{reason="queue_full"} 4
# HELP grpc_tap_spans_exported_total Spans that the collector has taken.
# TYPE grpc_tap_spans_exported_total counter
grpc_tap_spans_exported_total 5
# HELP grpc_tap_takeovers_total What happened to paths: taken, joined, away, gave_up, died, failed.
# TYPE grpc_tap_takeovers_total counter
grpc_tap_takeovers_total{result="taken",socket="/run/cri.sock"} 2
`
	if err := testutil.CollectAndCompare(newOwn(func() Health { return m.health }), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if got := m.family("grpc_tap_build_info"); len(got) != 1 || got[0].GetGauge().GetValue() != 1 {
		t.Errorf("%v", got)
	}
	if m.family("go_goroutines") == nil || m.family("process_resident_memory_bytes") == nil {
		t.Error("the process says nothing of itself")
	}
}

// TestOddPaths: a path may have any bytes, and two that differ are not the same. What one
// label does not take, the whole page would be without.
func TestOddPaths(t *testing.T) {
	m := newForTest(t)
	m.health = Health{Takeovers: map[Takeover]uint64{{"/run/\xfe", "joined"}: 1, {"/run/\xff", "joined"}: 2}}
	got := m.family("grpc_tap_takeovers_total")
	if len(got) != 2 || got[0].GetLabel()[1].GetValue() != `"/run/\xfe"` {
		t.Errorf("%v", got)
	}
}

// Names, types and help are as Prometheus' conventions want them, promtool check
// metrics says: this is its code. A registry that is strict finds what is said twice.
func TestConventions(t *testing.T) {
	m := newForTest(t)
	m.health = Health{
		Running: map[string]int{"": 1}, Oldest: map[string]time.Time{"m": time.Now()}, Ready: map[string]bool{"/s": true}, Connections: map[string]int{"decoded": 1}, DecodeErrors: map[string]uint64{"panic": 1},
		RecordsDropped: map[string]uint64{"stdout": 1}, Takeovers: map[Takeover]uint64{{"/s", "taken"}: 1}, Spans: &Spans{Dropped: map[string]uint64{"queue_full": 1}},
	}
	m.Records([]*call.Record{{State: call.Done, Code: "OK"}})
	m.Phases([]*call.Phase{{Kind: call.PodStart, Outcome: call.Started}})
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	strict := prometheus.NewPedanticRegistry()
	strict.MustRegister(m.calls, m.starts, newOwn(func() Health { return m.health }))
	if _, err := strict.Gather(); err != nil {
		t.Error(err)
	}
}

// Sockets come and go for months: the label takes few of them.
func TestSockets(t *testing.T) {
	var s Sockets
	labels := map[string]bool{}
	for i := range 1000 {
		path := fmt.Sprintf("/plugins/%d/csi.sock", i)
		labels[s.Label(path)] = true
		if again := s.Label("/plugins/0/csi.sock"); again != "/plugins/0/csi.sock" {
			t.Fatalf("after %s the first is %q", path, again)
		}
	}
	if len(labels) != maxSockets+1 || !labels[other] {
		t.Errorf("%d labels", len(labels))
	}
}
