package metric

import (
	"context"
	"encoding/hex"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"

	prombridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/grpc-tap/grpc-tap/internal/otlp"
)

// Configured says whether the standard variables ask for metrics to be sent by OTLP. What
// asks for spans alone does not: a collector of traces need not take metrics.
func Configured(getenv func(string) string) bool {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	switch getenv("OTEL_METRICS_EXPORTER") {
	case "none":
		return false
	case "otlp":
		return true
	}
	return getenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") != ""
}

// Sender sends metrics to a collector.
type Sender struct{ provider *sdkmetric.MeterProvider }

// Send sends what the page has, under the same names, where flags or the standard
// variables say, until Close. of is who we are.
func (m *Metrics) Send(ctx context.Context, where otlp.Flags, of *resource.Resource, log *slog.Logger) (*Sender, error) {
	c, err := where.Collector(otlp.Metrics, os.Getenv)
	if err != nil {
		return nil, err
	}
	opts := []otlpmetricgrpc.Option{
		// The next sending has all that this one has: none is worth a retry.
		otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: false}),
		otlpmetricgrpc.WithDialOption(otlp.Keepalive()),
		otlpmetricgrpc.WithTLSCredentials(c.Credentials),
	}
	if where.Endpoint != "" {
		opts = append(opts, otlpmetricgrpc.WithEndpoint(where.Endpoint))
	}
	to, err := otlpmetricgrpc.New(ctx, opts...)
	if err != nil {
		return nil, err
	}
	from := prombridge.NewMetricProducer(prombridge.WithGatherer(m.registry))
	reader := sdkmetric.NewPeriodicReader(&patient{Exporter: to, log: log}, sdkmetric.WithProducer(from))
	return &Sender{sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(of))}, nil
}

// Close sends what there is, and ends; at the latest when ctx does.
func (s *Sender) Close(ctx context.Context) { _ = s.provider.Shutdown(ctx) } // what fails was said

// patient says once that the collector takes no metrics, and once that it does again.
// The SDK would say it each time, past our log.
type patient struct {
	sdkmetric.Exporter
	log  *slog.Logger
	down atomic.Bool
}

// Export implements sdkmetric.Exporter.
func (p *patient) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	mend(m)
	err := p.Exporter.Export(ctx, m)
	was := p.down.Swap(err != nil)
	switch {
	case err != nil && !was:
		p.log.Warn("cannot send metrics: calls go on, and the next try is made as ever", "cause", err,
			"next", "see the collector's log: it needs a receiver of metrics by OTLP/gRPC; or send none (--otlp-metrics, OTEL_METRICS_EXPORTER=none)")
	case err == nil && was:
		p.log.Info("metrics are sent again")
	}
	return nil
}

// mend makes of histograms what OTLP wants. The bridge (v0.72) takes an exemplar's ids
// for bytes, though Prometheus has them in hex: a collector refuses a request with such.
// And a label without a value is no label, in Prometheus' terms.
func mend(m *metricdata.ResourceMetrics) {
	valued := func(kv attribute.KeyValue) bool { return kv.Value.AsString() != "" }
	for _, scope := range m.ScopeMetrics {
		for _, one := range scope.Metrics {
			h, ok := one.Data.(metricdata.Histogram[float64])
			if !ok {
				continue
			}
			for i := range h.DataPoints {
				point := &h.DataPoints[i]
				point.Attributes, _ = point.Attributes.Filter(valued)
				for j := range point.Exemplars {
					e := &point.Exemplars[j]
					e.TraceID, e.SpanID = unhex(e.TraceID, 16), unhex(e.SpanID, 8)
				}
			}
		}
	}
}

// unhex is an id of so many bytes, if it is given in hex; else as it is given.
func unhex(id []byte, size int) []byte {
	plain := make([]byte, size)
	if len(id) != 2*size {
		return id
	}
	if _, err := hex.Decode(plain, id); err != nil {
		return id
	}
	return plain
}
