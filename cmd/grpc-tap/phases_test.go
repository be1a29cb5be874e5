package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
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
		p := newPhases(spans, nil, nil, filepath.Join(t.TempDir(), name), log)
		p.Place(&call.Record{Start: time.Now(), State: call.Done, Code: "OK", Service: "runtime.v1.RuntimeService", Method: "RunPodSandbox",
			SandboxID: "s1", Pod: call.Pod{Namespace: "shop", Name: "web", UID: "u1"}})
		p.close(true)
		cancel()
		_ = spans.Shutdown(ctx)
		if got := spans.Stats().Dropped["export_failed"]; got != want {
			t.Errorf("--remember %s: %d roots, want %d", name, got, want)
		}
	}
}
