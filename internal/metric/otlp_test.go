package metric

import (
	"bytes"
	"context"
	"encoding/hex"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/otlp"
)

// collector takes metrics, or refuses them.
type collector struct {
	collectorpb.UnimplementedMetricsServiceServer
	refuses, flagged bool

	mu   sync.Mutex
	asks int
	last []*metricspb.ResourceMetrics
}

func (c *collector) Export(_ context.Context, r *collectorpb.ExportMetricsServiceRequest) (*collectorpb.ExportMetricsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asks++
	if c.refuses {
		return nil, status.Error(codes.Unimplemented, "traces only")
	}
	c.last = r.GetResourceMetrics()
	return &collectorpb.ExportMetricsServiceResponse{}, nil
}

func (c *collector) times() int { c.mu.Lock(); defer c.mu.Unlock(); return c.asks }

// sends starts a collector, and a Sender to it.
func sends(t *testing.T, m *gathered, c *collector, log *bytes.Buffer) (end func()) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	collectorpb.RegisterMetricsServiceServer(server, c)
	go func() { _ = server.Serve(lis) }()
	where := otlp.Flags{}
	if c.flagged {
		where = otlp.Flags{Endpoint: lis.Addr().String(), Insecure: true}
		t.Setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://127.0.0.1:1")
	} else {
		t.Setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://"+lis.Addr().String())
	}
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
	s, err := m.Send(t.Context(), where, resource.NewSchemaless(attribute.String("service.name", "grpc-tap")), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		s.Close(ctx)
		server.Stop()
	}
}

// A flag that says where wins over the variables.
func TestSendWhere(t *testing.T) {
	m, c := newForTest(t), &collector{flagged: true}
	sends(t, m, c, &bytes.Buffer{})()
	if c.times() == 0 {
		t.Error("nothing is sent there")
	}
}

// What is sent is what the page has.
func TestSend(t *testing.T) {
	m, c := newForTest(t), &collector{}
	end := sends(t, m, c, &bytes.Buffer{})
	trace := strings.Repeat("ab", 16)
	m.Records([]*call.Record{{State: call.Done, Code: "OK", DurationMS: 1000, Sampled: true, TraceID: trace, SpanID: strings.Repeat("cd", 8)}, {State: call.Done, Code: "OK"}})
	end() // sends the last
	if len(c.last) != 1 || c.last[0].GetResource().GetAttributes()[0].GetValue().GetStringValue() != "grpc-tap" {
		t.Fatalf("sent %v", c.last)
	}
	found := map[string]*metricspb.Metric{}
	for _, s := range c.last[0].GetScopeMetrics() {
		for _, one := range s.GetMetrics() {
			found[one.GetName()] = one
		}
	}
	points := found["rpc_client_call_duration_seconds"].GetHistogram().GetDataPoints()
	if len(points) != 1 || points[0].GetCount() != 2 || points[0].GetSum() != 1 || len(points[0].GetExemplars()) != 1 ||
		hex.EncodeToString(points[0].GetExemplars()[0].GetTraceId()) != trace || len(points[0].GetExemplars()[0].GetSpanId()) != 8 || len(points[0].GetAttributes()) != 2 {
		t.Errorf("%v", points)
	}
	for _, name := range []string{"grpc_tap_build_info", "grpc_tap_mirror_dropped_bytes_total", "go_goroutines"} {
		if found[name] == nil {
			t.Errorf("%s is not sent", name)
		}
	}
}

// TestSendBegins: what counts anew, as when an agent's settings change, says since when.
// What goes down otherwise is an error to who reads it.
func TestSendBegins(t *testing.T) {
	began := time.Now()
	m, c := newForTest(t), &collector{}
	m.health = Health{Takeovers: map[Takeover]uint64{{"/s", "taken"}: 1}, Spans: &Spans{Dropped: map[string]uint64{"queue_full": 1}}}
	m.Records([]*call.Record{{State: call.Done, Code: "OK"}})
	sends(t, m, c, &bytes.Buffer{})()
	for _, s := range c.last[0].GetScopeMetrics() {
		for _, one := range s.GetMetrics() {
			if !strings.HasPrefix(one.GetName(), "grpc_tap_") && !strings.HasPrefix(one.GetName(), "rpc_") {
				continue // the process'
			}
			for _, p := range one.GetSum().GetDataPoints() {
				if p.GetStartTimeUnixNano() < uint64(began.UnixNano()) {
					t.Errorf("%s begins before it is made", one.GetName())
				}
			}
			for _, p := range one.GetHistogram().GetDataPoints() {
				if p.GetStartTimeUnixNano() < uint64(began.UnixNano()) {
					t.Errorf("%s begins before it is made", one.GetName())
				}
			}
		}
	}
}

// A collector that refuses metrics is no error, and said once.
func TestSendIsRefused(t *testing.T) {
	m, c, log := newForTest(t), &collector{refuses: true}, &bytes.Buffer{}
	end := sends(t, m, c, log)
	for deadline := time.Now().Add(10 * time.Second); c.times() < 3 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	end()
	if said := log.String(); c.times() < 3 || strings.Count(said, "\n") != 1 || !strings.Contains(said, "cannot send metrics") || !strings.Contains(said, "traces only") {
		t.Errorf("asked %d times, said %s", c.times(), said)
	}
}

func TestConfigured(t *testing.T) {
	for env, want := range map[string]bool{
		"": false, "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4317": false, "OTEL_TRACES_EXPORTER=otlp": false,
		"OTEL_METRICS_EXPORTER=otlp": true, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c:4317": true,
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c:4317 OTEL_METRICS_EXPORTER=none": false,
		"OTEL_METRICS_EXPORTER=otlp OTEL_SDK_DISABLED=true":                            false,
	} {
		vars := map[string]string{}
		for _, kv := range strings.Fields(env) {
			name, value, _ := strings.Cut(kv, "=")
			vars[name] = value
		}
		if got := Configured(func(name string) string { return vars[name] }); got != want {
			t.Errorf("%s: %v", env, got)
		}
	}
}
