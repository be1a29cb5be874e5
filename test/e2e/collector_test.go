package e2e

import (
	"context"
	"encoding/hex"
	"net"
	"sync"
	"testing"

	metrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// Collector is an OTLP collector in this process that keeps what it receives.
type Collector struct {
	collector.UnimplementedTraceServiceServer
	Address string
	Metrics sentMetrics

	server *grpc.Server

	mu       sync.Mutex
	spans    map[string]*trace.Span      // by span id in hex
	from     map[string]string           // span id → the service that sent it
	resource map[string]*common.AnyValue // of the last batch
}

// NewCollector starts a collector on a free port; it ends with the test.
func NewCollector(t testing.TB, opts ...grpc.ServerOption) *Collector {
	t.Helper()
	c := &Collector{Address: "127.0.0.1:0"}
	c.serve(t, opts...)
	return c
}

func (c *Collector) serve(t testing.TB, opts ...grpc.ServerOption) {
	t.Helper()
	listener, err := net.Listen("tcp", c.Address)
	if err != nil {
		t.Fatal(err)
	}
	c.Address, c.server = listener.Addr().String(), grpc.NewServer(opts...)
	c.spans, c.from = map[string]*trace.Span{}, map[string]string{}
	collector.RegisterTraceServiceServer(c.server, c)
	metrics.RegisterMetricsServiceServer(c.server, &c.Metrics)
	go c.server.Serve(listener)
	t.Cleanup(c.server.Stop)
}

// ServeIn makes the collector listen in a lab too, which has a loopback of its
// own, at HOST:PORT, of which HOST is one of its.
func (c *Collector) ServeIn(l *lab.Lab, at string) (address string) {
	listener := l.Listen(at)
	go c.server.Serve(listener)
	return listener.Addr().String()
}

// Export implements the collector's one method.
func (c *Collector) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range req.GetResourceSpans() {
		c.resource = attributes(rs.GetResource().GetAttributes())
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				id := hex.EncodeToString(span.GetSpanId())
				c.spans[id], c.from[id] = span, c.resource["service.name"].GetStringValue()
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// Spans are those of calls received so far, by span id.
func (c *Collector) Spans() map[string]*trace.Span { return c.of(trace.Span_SPAN_KIND_CLIENT) }

// Roots are those of pods' starts and stops, by span id.
func (c *Collector) Roots() map[string]*trace.Span { return c.of(trace.Span_SPAN_KIND_INTERNAL) }

func (c *Collector) of(kind trace.Span_SpanKind) map[string]*trace.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := map[string]*trace.Span{}
	for id, span := range c.spans {
		if span.GetKind() == kind {
			spans[id] = span
		}
	}
	return spans
}

// Total is how many spans have been received, each once.
func (c *Collector) Total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.spans)
}

// Resource is a string attribute of the resource that sent the last spans.
func (c *Collector) Resource(key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resource[key].GetStringValue()
}

func attributes(kvs []*common.KeyValue) map[string]*common.AnyValue {
	m := map[string]*common.AnyValue{}
	for _, kv := range kvs {
		m[kv.GetKey()] = kv.GetValue()
	}
	return m
}

// sentMetrics are the names of the metrics that were received.
type sentMetrics struct {
	metrics.UnimplementedMetricsServiceServer
	names sync.Map
}

// Export implements the metrics' one method.
func (m *sentMetrics) Export(_ context.Context, req *metrics.ExportMetricsServiceRequest) (*metrics.ExportMetricsServiceResponse, error) {
	for _, rm := range req.GetResourceMetrics() {
		for _, sm := range rm.GetScopeMetrics() {
			for _, one := range sm.GetMetrics() {
				m.names.Store(one.GetName(), true)
			}
		}
	}
	return &metrics.ExportMetricsServiceResponse{}, nil
}
