package span

import (
	"context"
	"fmt"
	"net"
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
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Variables of the OTLP exporter that we read too; the traces' own is looked
// at first, as the specification has it.
var (
	endpointVars = []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}
	insecureVars = []string{"OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"}
	timeoutVars  = []string{"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"}
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
	// A node that vanished says nothing. It is asked with the first request after this
	// long without a word from it: no more often than its answers allow.
	silentFor   = 20 * time.Second
	answerAfter = 10 * time.Second
)

// Configured says whether spans are asked for at all: by the flag, or by a
// standard variable. OTEL_SDK_DISABLED=true and OTEL_TRACES_EXPORTER=none undo
// the variables, not the flag.
func Configured(endpoint string, getenv func(string) string) bool {
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
	v, _ := first(getenv, endpointVars)
	return v != ""
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

func otlpOptions(o Options, getenv func(string) string) ([]otlptracegrpc.Option, string, error) {
	if err := CheckEnv("TRACES", getenv); err != nil {
		return nil, "", err
	}
	redial := backoff.DefaultConfig
	redial.MaxDelay = redialAtMost
	opts := []otlptracegrpc.Option{
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{
			Enabled: !o.once, InitialInterval: retryFrom, MaxInterval: retryAtMost, MaxElapsedTime: retryFor,
		}),
		otlptracegrpc.WithDialOption(
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: silentFor, Timeout: answerAfter}),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: redial, MinConnectTimeout: exportTimeout}),
			grpc.WithChainUnaryInterceptor(takeAnswer)),
	}
	if t, _ := first(getenv, timeoutVars); t == "" {
		opts = append(opts, otlptracegrpc.WithTimeout(exportTimeout))
	}

	plaintext := o.Insecure
	endpoint := o.Endpoint
	if endpoint != "" {
		if err := CheckEndpoint(endpoint); err != nil {
			return nil, "", err
		}
		// As a URL, so that the scheme of a variable that the flag overrides
		// does not decide on this endpoint's TLS.
		opts = append(opts, otlptracegrpc.WithEndpointURL("https://"+endpoint))
		v, _ := first(getenv, insecureVars)
		plaintext = plaintext || strings.EqualFold(v, "true")
	} else {
		endpoint = envEndpoint(getenv)
	}
	if plaintext {
		// Not WithInsecure: OTEL_EXPORTER_OTLP_CERTIFICATE would outrank it.
		opts = append(opts, otlptracegrpc.WithTLSCredentials(insecure.NewCredentials()))
	}
	return opts, endpoint, nil
}

// CheckEndpoint: the flag is HOST:PORT and nothing else.
func CheckEndpoint(s string) error {
	example := "as in --otlp-endpoint 127.0.0.1:4317 (plaintext: add --otlp-insecure)"
	if strings.Contains(s, "/") {
		return fmt.Errorf("--otlp-endpoint %q: want HOST:PORT without scheme or path, %s", s, example)
	}
	host, port, err := net.SplitHostPort(s)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, " \t") {
		return fmt.Errorf("--otlp-endpoint %q: want HOST:PORT, %s", s, example)
	}
	return nil
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
