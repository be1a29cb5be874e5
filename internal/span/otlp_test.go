package span

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
)

// collector is an OTLP/gRPC trace receiver that keeps what it is sent.
type collector struct {
	coltracepb.UnimplementedTraceServiceServer
	addr string

	mu       sync.Mutex
	requests []*coltracepb.ExportTraceServiceRequest
	headers  metadata.MD
	partial  *coltracepb.ExportTracePartialSuccess
	err      error
}

func (c *collector) Export(ctx context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	c.requests = append(c.requests, req)
	c.headers, _ = metadata.FromIncomingContext(ctx)
	return &coltracepb.ExportTraceServiceResponse{PartialSuccess: c.partial}, nil
}

func (c *collector) spans() (all []*tracepb.Span) {
	for _, req := range c.requests {
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				all = append(all, ss.Spans...)
			}
		}
	}
	return all
}

func (c *collector) resource() map[string]string {
	m := map[string]string{}
	for _, kv := range c.requests[0].ResourceSpans[0].Resource.Attributes {
		m[kv.Key] = kv.Value.GetStringValue()
	}
	return m
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{addr: l.Addr().String()}
	srv := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(srv, c)
	served := make(chan struct{})
	go func() { defer close(served); srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-served })
	return c
}

func TestOTLP(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://elsewhere.invalid:1") // the flag wins
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue,authorization=Bearer%20abc")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=c1,k8s.node.name=named-here,service.name=less,team=%ff")
	t.Setenv("OTEL_SERVICE_NAME", "tap-of-ours")
	c := startCollector(t)
	e := newExporter(t, Options{Endpoint: c.addr, Insecure: true, Version: "v1.2.3"})
	r := version()
	r.Code, r.Message = "INTERNAL", "not UTF-8: \xff\xfe"
	record(e, r)
	record(e, version())
	shutdown(t, e)

	spans := c.spans()
	if len(spans) != 2 || spans[0].Status.Message != "not UTF-8: \uFFFD" || spans[0].Name != "runtime.v1.RuntimeService/Version" {
		t.Fatalf("spans %v", spans)
	}
	if s := spans[1]; s.StartTimeUnixNano != uint64(r.Start.UnixNano()) || s.EndTimeUnixNano-s.StartTimeUnixNano != 1500000 {
		t.Errorf("times %d – %d", s.StartTimeUnixNano, s.EndTimeUnixNano)
	}
	if c.headers.Get("x-tenant")[0] != "blue" || c.headers.Get("authorization")[0] != "Bearer abc" {
		t.Errorf("headers %v", c.headers)
	}
	host, _ := os.Hostname()
	for k, want := range map[string]string{
		"service.name": "tap-of-ours", "service.version": "v1.2.3", "k8s.cluster.name": "c1", "team": "\uFFFD",
		"k8s.node.name": "named-here", "host.name": host, "telemetry.sdk.language": "go",
	} {
		if got := c.resource()[k]; got != want {
			t.Errorf("resource %s = %q, want %q", k, got, want)
		}
	}
	if st := e.Stats(); st.Exported != 2 {
		t.Errorf("stats %+v", st)
	}
}

// The environment alone will do, and the node has a name without any help.
func TestOTLPFromEnvironment(t *testing.T) {
	c := startCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+c.addr)
	t.Setenv("OTEL_SERVICE_NAME", "")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "")
	t.Setenv("NODE_NAME", "")
	e := newExporter(t, Options{})
	record(e, version())
	shutdown(t, e)
	host, _ := os.Hostname()
	if res := c.resource(); res["service.name"] != "grpc-tap" || res["k8s.node.name"] != strings.ToLower(host) {
		t.Errorf("resource %v", res)
	}
}

func TestPartialSuccess(t *testing.T) {
	c, log := startCollector(t), &lines{}
	c.partial = &coltracepb.ExportTracePartialSuccess{RejectedSpans: 2, ErrorMessage: "too old"}
	e := newExporter(t, Options{Endpoint: c.addr, Insecure: true, Log: log.logger()})
	for range 5 {
		record(e, version())
	}
	shutdown(t, e)
	if st := e.Stats(); st.Exported != 3 || st.Dropped[Rejected] != 2 || st.Dropped[ExportFailed] != 0 {
		t.Errorf("stats %+v, want 3 exported and 2 rejected", st)
	}
	if got := log.get(); len(got) != 1 || !strings.Contains(got[0], "too old") {
		t.Errorf("log %q, want the collector's reason once", got)
	}
}

// What a person reads when it does not work: cause, and what to do.
func TestCollectorTrouble(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody speaks
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	plain, denied := startCollector(t), startCollector(t)
	denied.err = grpcstatus.Error(codes.Unauthenticated, "who are you")

	for _, c := range []struct {
		name, endpoint string
		insecure       bool
		timeout        string
		want           []string
	}{
		{"down", gone.Addr().String(), true, "", []string{"connection refused", "start the collector"}},
		{"TLS against plaintext", plain.addr, false, "", []string{"--otlp-insecure"}},
		{"no credentials", denied.addr, true, "", []string{"who are you", "OTEL_EXPORTER_OTLP_HEADERS"}},
		{"no answer", mute.Addr().String(), true, "50", []string{"OTEL_EXPORTER_OTLP_TIMEOUT"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", c.timeout)
			t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2") // two failures, one line
			log := &lines{}
			e := newExporter(t, Options{Endpoint: c.endpoint, Insecure: c.insecure, Log: log.logger(), once: true})
			for range 4 {
				record(e, version())
			}
			shutdown(t, e)
			if st := e.Stats(); st.Exported != 0 || st.Dropped[ExportFailed] != 4 {
				t.Errorf("stats %+v, want 4 failed", st)
			}
			got := log.get()
			if len(got) != 1 {
				t.Fatalf("log %q, want one line", got)
			}
			for _, want := range append(c.want, c.endpoint, "level=WARN") {
				if !strings.Contains(got[0], want) {
					t.Errorf("%s\ndoes not say %q", got[0], want)
				}
			}
			t.Log(got[0])
		})
	}
}
