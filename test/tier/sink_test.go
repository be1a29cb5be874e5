package tier

import (
	"context"
	"encoding/hex"
	"net"
	"slices"
	"sync"
	"testing"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// Sink is where collectors send to: it knows each span and by which collector it came.
type Sink struct {
	mu       sync.Mutex
	Received int
	Came     map[string]int         // span → how often
	By       []int                  // collector → spans
	Through  map[string]map[int]int // trace → collector → spans
}

// door is the sink as one collector sees it.
type door struct {
	coltracepb.UnimplementedTraceServiceServer
	sink      *Sink
	collector int
}

// NewSink listens for so many collectors, at an address for each; it ends with the test.
func NewSink(t testing.TB, collectors int) (*Sink, []string) {
	t.Helper()
	s := &Sink{Came: map[string]int{}, By: make([]int, collectors), Through: map[string]map[int]int{}}
	var addresses []string
	for i := range collectors {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20)) // all that a killed one's neighbours held, at once
		coltracepb.RegisterTraceServiceServer(server, &door{sink: s, collector: i})
		t.Cleanup(server.Stop)
		go func() { _ = server.Serve(l) }()
		addresses = append(addresses, l.Addr().String())
	}
	return s, addresses
}

// Export implements the sink's one method.
func (d *door) Export(_ context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	s := d.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				s.takes(d.collector, span)
			}
		}
	}
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func (s *Sink) takes(collector int, span *tracepb.Span) {
	s.Received++
	s.By[collector]++
	s.Came[hex.EncodeToString(span.SpanId)]++
	trace := hex.EncodeToString(span.TraceId)
	if s.Through[trace] == nil {
		s.Through[trace] = map[int]int{}
	}
	s.Through[trace][collector]++
}

// Arrivals compares what was given with what came.
type Arrivals struct {
	Missing, Twice  int // spans
	Traces, Divided int // of several spans; of those, by more than one collector
	By              []int
}

// Arrivals of the spans that a fleet was given. Spans that nobody gave are an error of
// the simulation's: they are missing below zero.
func (s *Sink) Arrivals(given map[string]string) Arrivals {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := Arrivals{Missing: len(given) - len(s.Came), Twice: s.Received - len(s.Came), By: slices.Clone(s.By)}
	for _, through := range s.Through {
		if sum(through) > 1 {
			a.Traces++
		}
		if len(through) > 1 {
			a.Divided++
		}
	}
	return a
}

// Distinct is how many spans came so far, each counted once.
func (s *Sink) Distinct() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.Came)
}

// Of is how many spans came by a collector so far.
func (s *Sink) Of(collector int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.By[collector]
}

func sum(through map[int]int) (n int) {
	for _, spans := range through {
		n += spans
	}
	return n
}
