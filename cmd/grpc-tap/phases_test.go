package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/metric"
	"github.com/grpc-tap/grpc-tap/internal/span"
)

// A root is left to the tap that follows only if that one will know of it.
func TestRootsThatNobodyWouldTell(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, want := range map[string]uint64{"pods": 0, "none/pods": 1} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		spans, err := span.New(ctx, span.Options{Endpoint: "127.0.0.1:1", Insecure: true, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		m := &metrics{Metrics: metric.New("", "", func() metric.Health { return metric.Health{} })}
		p := newPhases(spans, m, nil, filepath.Join(t.TempDir(), name), log)
		p.Place(&call.Record{Start: time.Now(), State: call.Done, Code: "OK", Service: "runtime.v1.RuntimeService", Method: "RunPodSandbox",
			SandboxID: "s1", Pod: call.Pod{Namespace: "shop", Name: "web", UID: "u1"}})
		p.close(true)
		cancel()
		_ = spans.Shutdown(ctx)
		if got := spans.Stats().Dropped["export_failed"]; got != want {
			t.Errorf("--remember %s: %d roots, want %d", name, got, want)
		}
		if line := fmt.Sprintf(`grpc_tap_pod_start_duration_seconds_count{outcome="unfinished"} %d`, want); !strings.Contains(page(t, m), line) {
			t.Errorf("--remember %s: there is no %s", name, line)
		}
	}
}

// A root that is over is told by who saw its end, also in the last second.
func TestRootsOfTheLastSecond(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	spans, err := span.New(ctx, span.Options{Endpoint: "127.0.0.1:1", Insecure: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	p := newPhases(spans, nil, nil, filepath.Join(t.TempDir(), "pods"), log)
	for _, method := range []string{"RunPodSandbox", "StartContainer", "StopPodSandbox"} {
		p.Place(&call.Record{Start: time.Now(), State: call.Done, Code: "OK", Service: "runtime.v1.RuntimeService", Method: method,
			SandboxID: "s1", Container: call.Container{ID: "c1"}, Pod: call.Pod{Namespace: "shop", Name: "web", UID: "u1"}})
	}
	p.close(true)
	_ = spans.Shutdown(ctx)
	if got := spans.Stats().Dropped["export_failed"]; got != 1 {
		t.Errorf("%d roots, want that of the start: it is over, and the stop is not", got)
	}
}

// page is what Prometheus would read.
func page(t *testing.T, m *metrics) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := m.Serve(lis, m.ready, func() error { return nil }, slog.New(slog.DiscardHandler))
	defer server.Close(t.Context())
	answer, err := http.Get("http://" + lis.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
