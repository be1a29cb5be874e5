package span

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/grpc-tap/grpc-tap/internal/otlp"
)

// Times that let a person read "cannot export spans" within ten seconds of the
// first call, and spans arrive within seconds of the collector's return. The
// libraries' defaults (10 s, retries for a minute, redials after up to two) are
// meant for applications whose queue is the only copy; ours is not.
const (
	exportTimeout = 7 * time.Second // one request with its retries, unless OTEL_EXPORTER_OTLP_TIMEOUT
	retryFor      = 4 * time.Second
	retryFrom     = 500 * time.Millisecond
	retryAtMost   = 2 * time.Second
	redialAtMost  = 5 * time.Second
)

// Configured says whether spans are asked for at all: by the flag, or by a
// standard variable. OTEL_SDK_DISABLED=true and OTEL_TRACES_EXPORTER=none undo
// the variables, not the flag.
func Configured(endpoint string, getenv otlp.Environment) bool {
	if endpoint != "" {
		return true
	}
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	switch getenv("OTEL_TRACES_EXPORTER") {
	case "none":
		return false
	case "otlp":
		return true
	}
	return getenv.Find(otlp.Traces, "ENDPOINT") != ""
}

// newOTLP returns the OTLP/gRPC client and the endpoint as a person knows it.
func newOTLP(ctx context.Context, o Options) (client, string, error) {
	opts, endpoint, err := otlpOptions(o, os.Getenv)
	if err != nil {
		return nil, "", err
	}
	c := otlptracegrpc.NewClient(opts...)
	if err := c.Start(ctx); err != nil {
		return nil, "", fmt.Errorf("OTLP exporter for %s: %w", endpoint, err)
	}
	return c, endpoint, nil
}

func otlpOptions(o Options, getenv otlp.Environment) ([]otlptracegrpc.Option, string, error) {
	to, err := otlp.Flags{Endpoint: o.Endpoint, Insecure: o.Insecure}.Collector(otlp.Traces, getenv)
	if err != nil {
		return nil, "", err
	}
	redial := backoff.DefaultConfig
	redial.MaxDelay = redialAtMost
	opts := []otlptracegrpc.Option{
		otlptracegrpc.WithTLSCredentials(to.Credentials),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{
			Enabled: !o.once, InitialInterval: retryFrom, MaxInterval: retryAtMost, MaxElapsedTime: retryFor,
		}),
		otlptracegrpc.WithDialOption(
			otlp.Keepalive(),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: redial, MinConnectTimeout: exportTimeout}),
			grpc.WithChainUnaryInterceptor(takeAnswer)),
	}
	if o.Endpoint != "" {
		opts = append(opts, otlptracegrpc.WithEndpoint(o.Endpoint))
	}
	if getenv.Find(otlp.Traces, "TIMEOUT") == "" {
		opts = append(opts, otlptracegrpc.WithTimeout(exportTimeout))
	}
	return opts, to.Name, nil
}

// Resource describes this process; OTEL_RESOURCE_ATTRIBUTES and
// OTEL_SERVICE_NAME come last and win. The error is about those and leaves a
// usable resource.
func Resource(ctx context.Context, version string) (*resource.Resource, error) {
	attrs := []attribute.KeyValue{semconv.ServiceName("grpc-tap"), semconv.ServiceVersion(version)}
	host, _ := os.Hostname()
	if host != "" {
		attrs = append(attrs, semconv.HostName(host))
	}
	// The kubelet names its node by the lower-cased hostname unless told otherwise.
	node := os.Getenv("NODE_NAME")
	if node == "" {
		node = strings.ToLower(host)
	}
	if node != "" {
		attrs = append(attrs, semconv.K8SNodeName(node))
	}
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attrs...), resource.WithFromEnv())
	return asText(res), err
}

// asText is res with values that OTLP takes: a percent-encoded one, or a hostname, may
// have any bytes, and each request would fail for it.
func asText(res *resource.Resource) *resource.Resource {
	attrs := res.Attributes()
	for i, kv := range attrs {
		attrs[i] = attribute.String(valid(string(kv.Key)), valid(kv.Value.String()))
	}
	return resource.NewWithAttributes(res.SchemaURL(), attrs...)
}

// around is what stands around the spans of each request.
func around(res *resource.Resource, version string) *tracepb.ResourceSpans {
	r := &resourcepb.Resource{}
	for _, kv := range res.Attributes() {
		value := &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: kv.Value.String()}}
		r.Attributes = append(r.Attributes, &commonpb.KeyValue{Key: string(kv.Key), Value: value})
	}
	return &tracepb.ResourceSpans{
		Resource: r, SchemaUrl: res.SchemaURL(),
		ScopeSpans: []*tracepb.ScopeSpans{{
			Scope: &commonpb.InstrumentationScope{Name: scopeName, Version: version}, SchemaUrl: semconv.SchemaURL,
		}},
	}
}

// newSampler is the sampler that OTEL_TRACES_SAMPLER names. There is none, and
// every call is exported, where it is not set: a kubelet whose tracing is
// configured but which did not sample a call sends a traceparent with flags 00,
// and the SDK's default, ParentBased, would drop that call.
func newSampler(getenv func(string) string) (sdktrace.Sampler, error) {
	value := strings.ToLower(strings.TrimSpace(getenv("OTEL_TRACES_SAMPLER")))
	if value == "" {
		return nil, nil
	}
	name, parentBased := strings.CutPrefix(value, "parentbased_")
	var s sdktrace.Sampler
	switch name {
	case "always_on":
		s = sdktrace.AlwaysSample()
	case "always_off":
		s = sdktrace.NeverSample()
	case "traceidratio":
		ratio := 1.0
		if arg := strings.TrimSpace(getenv("OTEL_TRACES_SAMPLER_ARG")); arg != "" {
			var err error
			if ratio, err = strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
				return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG=%s: want a number from 0 to 1", arg)
			}
		}
		s = sdktrace.TraceIDRatioBased(ratio)
	default:
		return nil, fmt.Errorf("OTEL_TRACES_SAMPLER=%s: there is no such sampler", value)
	}
	if parentBased {
		s = sdktrace.ParentBased(s)
	}
	return s, nil
}
