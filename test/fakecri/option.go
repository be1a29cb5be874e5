package fakecri

import (
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
)

// An Option is for [NewRuntime], [NewDriver] and [NewKubelet] alike; each takes what concerns it and ignores the rest.
type Option func(*config)

type config struct {
	name    string
	seed    uint64
	tracer  trace.TracerProvider
	server  []grpc.ServerOption
	dial    []grpc.DialOption
	drivers map[string]string // CSI driver → the socket to dial
	backoff time.Duration
}

func newConfig(name string, opts []Option) *config {
	c := &config{name: name, drivers: map[string]string{}, backoff: 500 * time.Millisecond}
	for _, o := range opts {
		o(c)
	}
	return c
}

// WithName names the runtime ("fakeruntime") or the driver ([DefaultDriver]).
func WithName(name string) Option { return func(c *config) { c.name = name } }

// WithSeed changes the ids that a server gives out. The same seed and the same calls give the same ids.
func WithSeed(seed uint64) Option { return func(c *config) { c.seed = seed } }

// WithTracerProvider traces natively: otelgrpc with W3C propagation, on a server and on a kubelet's CRI connections. The
// real kubelet doesn't trace CSI, so this one doesn't either. By default nothing is traced and nothing propagated.
func WithTracerProvider(tp trace.TracerProvider) Option { return func(c *config) { c.tracer = tp } }

// WithServerOptions passes options on to grpc.NewServer, for instance a stats.Handler as an oracle.
func WithServerOptions(o ...grpc.ServerOption) Option {
	return func(c *config) { c.server = append(c.server, o...) }
}

// WithDialOptions passes options on to every connection of a kubelet, CRI and CSI.
func WithDialOptions(o ...grpc.DialOption) Option {
	return func(c *config) { c.dial = append(c.dial, o...) }
}

// WithGzip makes a kubelet compress its requests; the fake servers then compress their answers.
func WithGzip() Option {
	return WithDialOptions(grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
}

// WithCSI tells a kubelet which socket a CSI driver serves, as the driver's registration does.
func WithCSI(driver, socket string) Option { return func(c *config) { c.drivers[driver] = socket } }

// WithBackoff is how long a kubelet waits after a first failure (500 ms); it doubles with every further one, up to 2m2s.
func WithBackoff(d time.Duration) Option { return func(c *config) { c.backoff = d } }

func (c *config) otel() []otelgrpc.Option {
	return []otelgrpc.Option{otelgrpc.WithTracerProvider(c.tracer), otelgrpc.WithPropagators(propagation.TraceContext{})}
}

func (c *config) serverOptions() []grpc.ServerOption {
	if c.tracer == nil {
		return c.server
	}
	return append([]grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(c.otel()...))}, c.server...)
}

func (c *config) clientTracing() []grpc.DialOption {
	if c.tracer == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(c.otel()...))}
}
