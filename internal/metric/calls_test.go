package metric

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

func TestLabelsOfACall(t *testing.T) {
	version := call.Record{State: call.Done, Service: "runtime.v1.RuntimeService", Method: "Version", Known: true, Code: "OK", Socket: "/run/cri.sock"}
	change := func(f func(*call.Record)) call.Record { r := version; f(&r); return r }
	for name, c := range map[string]struct {
		of   call.Record
		want string
	}{
		"a call":                   {version, "runtime.v1.RuntimeService/Version OK /run/cri.sock"},
		"one that failed":          {change(func(r *call.Record) { r.Code = "NOT_FOUND" }), "runtime.v1.RuntimeService/Version NOT_FOUND NOT_FOUND /run/cri.sock"},
		"one that was lost":        {change(func(r *call.Record) { r.Code, r.State = "", call.Lost }), "runtime.v1.RuntimeService/Version connection_lost /run/cri.sock"},
		"of a driver":              {change(func(r *call.Record) { r.Volume.Driver = "nfs.csi.k8s.io" }), "runtime.v1.RuntimeService/Version OK /run/cri.sock nfs.csi.k8s.io"},
		"a method that nobody has": {change(func(r *call.Record) { r.Known = false }), "_OTHER OK /run/cri.sock"},
		"a code that gRPC has not": {change(func(r *call.Record) { r.Code = "CODE(99)" }), "runtime.v1.RuntimeService/Version _OTHER _OTHER /run/cri.sock"},
		"a driver that is none":    {change(func(r *call.Record) { r.Volume.Driver = "\xff" }), "runtime.v1.RuntimeService/Version OK /run/cri.sock _OTHER"},
		"a driver without end":     {change(func(r *call.Record) { r.Volume.Driver = strings.Repeat("x", 1<<16) }), "runtime.v1.RuntimeService/Version OK /run/cri.sock _OTHER"},
	} {
		m := newForTest(t)
		m.Records([]*call.Record{&c.of})
		if got := m.counts(); len(got) != 1 || got[c.want] != 1 {
			t.Errorf("%s: %v, not %s", name, got, c.want)
		}
	}
}

func TestARunningCallIsNotCounted(t *testing.T) {
	m := newForTest(t)
	m.Records([]*call.Record{{State: call.Running}})
	if got := m.counts(); len(got) != 0 {
		t.Errorf("counted %v", got)
	}
}

// Whatever the calls are, each is counted once, and labels take few values.
func TestEveryRecordIsCountedOnce(t *testing.T) {
	m := newForTest(t)
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(prefix string, of int) string { return fmt.Sprint(prefix, random.IntN(of)) }
	const records = 100_000
	all := make([]*call.Record, 0, records)
	for range records {
		r := &call.Record{
			State: call.Done, Service: "s", Method: pick("m", 1000), Known: random.IntN(4) == 0, Code: call.CodeName(random.Uint32N(40)),
			Socket: pick("/run/", 200), Volume: call.Volume{Driver: pick("", 1000)}, DurationMS: random.ExpFloat64() * 100,
		}
		if random.IntN(20) == 0 {
			r.State, r.Code = call.Lost, ""
		}
		all = append(all, r)
	}
	m.Records(all[:records/2])
	m.Records(all[records/2:])
	total, values := uint64(0), map[string]map[string]bool{}
	for _, s := range m.family("rpc_client_call_duration_seconds") {
		total += s.GetHistogram().GetSampleCount()
		for _, l := range s.GetLabel() {
			if values[l.GetName()] == nil {
				values[l.GetName()] = map[string]bool{}
			}
			values[l.GetName()][l.GetValue()] = true
		}
	}
	if total != records {
		t.Errorf("%d of %d records are counted", total, records)
	}
	if n := len(m.family("rpc_client_call_duration_seconds")); n < maxSeries || n > maxSeries+1 {
		t.Errorf("%d series, not %d and at most one for all others", n, maxSeries)
	}
	for name, most := range map[string]int{"server_address": maxSockets + 1, "csi_driver": maxDrivers + 1, "rpc_response_status_code": 17 + 2, "error_type": 16 + 3} {
		if n := len(values[name]); n < 2 || n > most {
			t.Errorf("%s has %d values: %v", name, n, values[name])
		}
	}
}

func TestBuckets(t *testing.T) {
	m := newForTest(t)
	for _, seconds := range []float64{0, .005, .0051, 10, 11, 299, 301} {
		m.Records([]*call.Record{{State: call.Done, Code: "OK", DurationMS: seconds * 1000}})
	}
	h := m.family("rpc_client_call_duration_seconds")[0].GetHistogram()
	got := map[float64]uint64{}
	for _, b := range h.GetBucket() {
		got[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	if got[.005] != 2 || got[.01] != 3 || got[10] != 4 || got[30] != 5 || got[120] != 5 || got[300] != 6 || h.GetSampleCount() != 7 || h.GetSampleSum() < 621 || h.GetSampleSum() > 622 {
		t.Errorf("%v of %d in %v s", got, h.GetSampleCount(), h.GetSampleSum())
	}
}

// An exemplar is a span that is exported.
func TestExemplars(t *testing.T) {
	id := func(n int, c string) string { return strings.Repeat(c, n) }
	for name, c := range map[string]struct {
		r    call.Record
		want string
	}{
		"exported":     {call.Record{Sampled: true, TraceID: id(32, "a"), SpanID: id(16, "b")}, "span_id=" + id(16, "b") + " trace_id=" + id(32, "a")},
		"not exported": {call.Record{TraceID: id(32, "a"), SpanID: id(16, "b")}, ""},
		"without ids":  {call.Record{Sampled: true}, ""},
		"odd ids":      {call.Record{Sampled: true, TraceID: id(500, "a"), SpanID: id(16, "b")}, ""},
	} {
		m := newForTest(t)
		c.r.State, c.r.Code, c.r.DurationMS = call.Done, "OK", 20
		m.Records([]*call.Record{&c.r})
		got := exemplars(m.family("rpc_client_call_duration_seconds")[0])
		if got != c.want {
			t.Errorf("%s: %q, not %q", name, got, c.want)
		}
	}
}

func exemplars(s *dto.Metric) string {
	var all []string
	for _, b := range s.GetHistogram().GetBucket() {
		for _, l := range b.GetExemplar().GetLabel() {
			all = append(all, l.GetName()+"="+l.GetValue())
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func BenchmarkCount(b *testing.B) {
	for name, sampled := range map[string]bool{"plain": false, "exemplar": true} {
		b.Run(name, func(b *testing.B) {
			m := newForTest(b)
			all := []*call.Record{{
				State: call.Done, Service: "runtime.v1.RuntimeService", Method: "Version", Known: true, Code: "OK", Socket: "/run/containerd/containerd.sock",
				DurationMS: 1, Sampled: sampled, TraceID: strings.Repeat("a", 32), SpanID: strings.Repeat("b", 16),
			}}
			b.ReportAllocs()
			for b.Loop() {
				m.Records(all)
			}
		})
	}
}
