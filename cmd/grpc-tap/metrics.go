package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/metric"
	"github.com/grpc-tap/grpc-tap/internal/otlp"
	"github.com/grpc-tap/grpc-tap/internal/span"
	"github.com/grpc-tap/grpc-tap/internal/tap"
)

// metrics are what --metrics-listen asks for: counts of what a session sees, and
// the page where they are; by OTLP they are sent where --otlp-metrics or the environment
// says so.
type metrics struct {
	*metric.Metrics
	listener net.Listener   // nil: there is no page
	server   *metric.Server // nil until serve
	to       *otlp.Flags    // where they are sent; nil: nowhere
	sender   *metric.Sender // nil: nothing is sent

	out    *output
	bypass bypass
	pulse  *pulse // of the loop that looks after the paths; nil: there is none

	sockets metric.Sockets

	mu    sync.Mutex
	lives []life
	past  past
}

// past is what those counted that are asked no more: a counter never goes back.
type past struct {
	tap.Stats
	takeovers map[metric.Takeover]uint64
}

func (s *showFlags) checkMetrics() error {
	if s.metrics == "" {
		return nil
	}
	if _, err := metric.Address(s.metrics); err != nil {
		return fmt.Errorf("--metrics-listen: %w", err)
	}
	return nil
}

// count makes metrics, if they are asked for, and binds the page's address, so that
// it is known before anything is taken over whether that can be had.
func (s *showFlags) count(out *output, stderr io.Writer) (m *metrics, err error) {
	sends := s.sends || metric.Configured(os.Getenv)
	if s.metrics == "" && !sends {
		return nil, nil
	}
	m = &metrics{out: out, past: past{takeovers: map[metric.Takeover]uint64{}}}
	if s.metrics != "" {
		if m.listener, err = listen(s.metrics); err != nil {
			return nil, err
		}
		fmt.Fprintf(stderr, "grpc-tap: metrics at http://%s/metrics\n", m.listener.Addr())
	}
	v, commit := versionInfo()
	m.Metrics = metric.New(v, commit, m.health)
	if sends {
		m.to = &otlp.Flags{}
		if s.sends {
			*m.to = otlp.Flags{Endpoint: s.endpoint, Insecure: s.insecure}
		}
	}
	return m, nil
}

func listen(said string) (net.Listener, error) {
	address, err := metric.Address(said)
	if err != nil {
		return nil, err
	}
	lis, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--metrics-listen %s: %w; give another address, or port 0 for any that is free", said, err)
	}
	return lis, nil
}

// add has a path asked, too, from now on.
func (m *metrics) add(one life) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lives = append(m.lives, one)
}

// drop has a path asked no more, whose life is over.
func (m *metrics) drop(one life) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lives = slices.DeleteFunc(m.lives, func(l life) bool { return l == one })
	m.past.Add(one.stats())
	m.addTakeovers(m.past.takeovers, one)
}

// addTakeovers adds what happened to a path.
func (m *metrics) addTakeovers(to map[metric.Takeover]uint64, one life) {
	for t, n := range one.takeovers() {
		t.Socket = m.sockets.Label(t.Socket)
		to[t] += n
	}
}

func (m *metrics) paths() []life {
	lives, _ := m.all()
	return lives
}

func (m *metrics) all() ([]life, past) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.lives), past{m.past.Stats, maps.Clone(m.past.takeovers)}
}

// serve answers who asks, and sends, from now on.
func (m *metrics) serve(ctx context.Context) {
	if m == nil {
		return
	}
	if m.listener != nil {
		m.server = m.Serve(m.listener, m.ready, func() error { return m.pulse.alive(time.Now()) }, m.out.log)
	}
	if m.to != nil {
		m.send(ctx)
	}
}

func (m *metrics) send(ctx context.Context) {
	v, _ := versionInfo()
	us, err := span.Resource(ctx, v)
	if err != nil {
		m.out.log.Warn("some OpenTelemetry resource attributes are left out of metrics", "cause", err)
	}
	if m.sender, err = m.Send(context.WithoutCancel(ctx), *m.to, us, m.out.log); err != nil {
		m.out.log.Warn("metrics are not sent: correct the variable", "cause", err)
	}
}

func (m *metrics) close(ctx context.Context) {
	if m == nil {
		return
	}
	if m.sender != nil {
		m.sender.Close(ctx)
	}
	switch {
	case m.server != nil:
		m.server.Close(ctx)
	case m.listener != nil:
		_ = m.listener.Close()
	}
}

// ready says which paths are not served or read, and why; or else, what is not seen.
func (m *metrics) ready() (but string, _ error) {
	errs := []error{m.pulse.ready()}
	paths := m.paths()
	for _, p := range paths {
		errs = append(errs, p.ready())
	}
	if n, _ := m.bypass.count(paths); n > 0 {
		but = fmt.Sprintf(", but not all is seen: %s older than grpc-tap; restart the clients, or say --live-attach (liveAttach: true)", plural(uint64(n), "connection"))
	}
	return but, errors.Join(errs...)
}

// health asks all that counts something.
func (m *metrics) health() metric.Health {
	var now tap.Now
	paths, sum := m.all()
	h := metric.Health{Ready: map[string]bool{}, Takeovers: sum.takeovers, RecordsDropped: m.out.dropped()}
	for _, p := range paths {
		sum.Add(p.stats())
		now.Add(p.now())
		m.addTakeovers(h.Takeovers, p)
		at := m.sockets.Label(p.where())
		if ready, seen := h.Ready[at]; ready || !seen { // of some that share a label all
			h.Ready[at] = p.ready() == nil
		}
	}
	h.CallsOverLimit, h.PodsEvicted = sum.OverLimit, m.out.phases.Stats().Evicted
	h.Running, h.Oldest, h.MirrorDropped, h.DecodeErrors = now.Running, now.Oldest, sum.DroppedBytes, sum.GaveUp
	h.Connections = map[string]int{"decoded": now.Decoded, "blind": now.Blind, "opaque": now.Opaque}
	if n, ok := m.bypass.count(paths); ok {
		h.Connections["bypassed"] = n
	}
	if m.out.sampler != nil {
		s := m.out.sampler.Stats()
		h.Sampled = s.Kept
		h.Sampled["declined"] = s.Dropped
	}
	if m.out.spans != nil {
		s := m.out.spans.Stats()
		h.Spans = &metric.Spans{Exported: s.Exported, Dropped: s.Dropped}
	}
	return h
}

// bypassEvery is how often connections past us are looked for: it takes a look at
// every process.
const bypassEvery = 30 * time.Second

// bypass counts connections that pass by our relays, to the servers behind them.
type bypass struct {
	mu    sync.Mutex
	at    time.Time
	n     int
	known bool
}

func (b *bypass) count(paths []life) (n int, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.at) < bypassEvery {
		return b.n, b.known
	}
	var at []string
	for _, p := range paths {
		at = append(at, p.where())
	}
	older, err := olderThanUs(at...)
	b.n, b.known = len(older), err == nil // part of a number is none
	b.at = time.Now()
	return b.n, b.known
}
