package main

import (
	"log/slog"
	"testing"

	"github.com/grpc-tap/grpc-tap/internal/metric"
	"github.com/grpc-tap/grpc-tap/internal/tap"
)

// lived is a path's life that saw something.
type lived struct{ life }

func (*lived) where() string { return "/run/csi.sock" }
func (*lived) ready() error  { return nil }
func (*lived) now() tap.Now  { return tap.Now{} }
func (*lived) stats() tap.Stats {
	return tap.Stats{DroppedBytes: 1, OverLimit: 2, GaveUp: map[string]uint64{"panic": 3}}
}
func (*lived) takeovers() map[metric.Takeover]uint64 {
	return map[metric.Takeover]uint64{{Socket: "/run/csi.sock", Result: "joined"}: 4}
}

// A path that comes and goes leaves its counts: no counter goes down.
func TestCountersStay(t *testing.T) {
	out := &output{phases: newPhases(nil, nil, nil, "", slog.New(slog.DiscardHandler))}
	defer out.phases.close(false)
	m := &metrics{out: out, past: past{takeovers: map[metric.Takeover]uint64{}}}
	first, second := &lived{}, &lived{}
	m.add(first)
	m.add(second)
	for _, gone := range []*lived{nil, first, second} {
		if gone != nil {
			m.drop(gone)
		}
		h := m.health()
		if h.MirrorDropped != 2 || h.CallsOverLimit != 4 || h.DecodeErrors["panic"] != 6 || h.Takeovers[metric.Takeover{Socket: "/run/csi.sock", Result: "joined"}] != 8 {
			t.Errorf("%+v", h)
		}
	}
}
