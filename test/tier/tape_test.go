package tier

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/phase"
	"github.com/grpc-tap/grpc-tap/internal/sample"
	"github.com/grpc-tap/grpc-tap/test/day"
)

// Tape is what the agent of one node exports: for each second the calls, roots and
// notices that have a span.
type Tape [][]Told

// Told is one of the three.
type Told struct {
	Record  *call.Record
	Phase   *call.Phase
	Failing *call.Failing
}

// NewTape plays seconds of a node's day, from one on, through what an agent does with
// them: calls go to their pods' traces, and the sampler keeps so many of a million of
// what is polled. All of a million is no sampling.
func NewTape(t testing.TB, ratePerMillion, from, seconds int) Tape {
	t.Helper()
	pods, err := phase.New("boot", nil)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(*call.Record) bool { return true }
	if ratePerMillion < 1_000_000 {
		s, err := sample.New(sample.Options{RatePerMillion: ratePerMillion})
		if err != nil {
			t.Fatal(err)
		}
		keep = s.Sample
	}
	for i := range 110 {
		pods.Ran(day.Old(i), day.ID("sandbox", i), "main", true)
	}
	tape := make(Tape, seconds)
	second := 0
	d := day.New(1, func(r *call.Record) {
		pods.Place(r)
		if keep(r) {
			r.Sampled = true
			furnish(r)
			tape[second] = append(tape[second], Told{Record: r})
		}
	})
	for ; second < seconds; second++ {
		d.Second(from + second)
		ended, failing := pods.Tick(d.Now)
		for _, p := range ended {
			tape[second] = append(tape[second], Told{Phase: p})
		}
		for _, f := range failing {
			tape[second] = append(tape[second], Told{Failing: f})
		}
	}
	return tape
}

// payloads are the lengths of what is shown of a request and of a response, as `grpc-tap
// demo -o json` has them; of a node's lists it is as much as --payload-bytes lets through.
var payloads = map[string][2]int{
	"ListPodSandbox": {2, 2048}, "ListContainers": {2, 2048}, "ListImages": {2, 2048}, "Status": {2, 236}, "Version": {19, 102},
	"ImageFsInfo": {2, 409}, "ExecSync": {120, 40}, "PodSandboxStatus": {85, 512}, "ContainerStatus": {85, 900}, "ImageStatus": {57, 300},
	"RunPodSandbox": {737, 85}, "PullImage": {801, 87}, "CreateContainer": {1989, 83}, "StartContainer": {83, 2}, "StopContainer": {96, 2},
	"NodePublishVolume": {779, 2}, "NodeGetCapabilities": {2, 127}, "NodeGetVolumeStats": {300, 200},
}

// furnish gives a record what is not played of it: what makes its span as large as a real one.
func furnish(r *call.Record) {
	sizes, known := payloads[r.Method]
	if !known {
		sizes = [2]int{85, 2}
	}
	r.Request, r.Response = text(sizes[0]), text(sizes[1])
	r.RequestBytes, r.ResponseBytes = int64(sizes[0]), int64(sizes[1])
	r.Caller = call.Caller{PID: 812, Exe: "/usr/bin/kubelet"}
}

func text(n int) []byte { return fmt.Appendf(nil, "%q", strings.Repeat("x", n)) }

// Of is the same of another node and another time: its trace and span ids are its own,
// and those of one trace still are.
func (t Told) Of(node string, now time.Time) Told {
	own := func(id string) string {
		if id == "" {
			return ""
		}
		return node + id[len(node):]
	}
	switch {
	case t.Record != nil:
		r := *t.Record
		r.Start = now.Add(-r.Duration())
		r.TraceID, r.SpanID, r.ParentSpanID, r.PodTraceID, r.PodSpanID = own(r.TraceID), own(r.SpanID), own(r.ParentSpanID), own(r.PodTraceID), own(r.PodSpanID)
		t.Record = &r
	case t.Phase != nil:
		p := *t.Phase
		p.Begin, p.End = now.Add(-p.Took()), now
		p.TraceID, p.SpanID = own(p.TraceID), own(p.SpanID)
		p.Links = nil
		for _, l := range t.Phase.Links {
			p.Links = append(p.Links, call.Link{TraceID: own(l.TraceID), SpanID: own(l.SpanID)})
		}
		t.Phase = &p
	case t.Failing != nil:
		f := *t.Failing
		f.Begin, f.End = now, now
		f.TraceID, f.SpanID, f.ParentSpanID = own(f.TraceID), own(f.SpanID), own(f.ParentSpanID)
		t.Failing = &f
	}
	return t
}

// ID is of the span that it becomes.
func (t Told) ID() (trace, span string) {
	switch {
	case t.Record != nil:
		return t.Record.TraceID, t.Record.SpanID
	case t.Phase != nil:
		return t.Phase.TraceID, t.Phase.SpanID
	default:
		return t.Failing.TraceID, t.Failing.SpanID
	}
}
