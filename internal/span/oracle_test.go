package span

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// oracle is the SDK: its tracer, and its exporter to a collector.
type oracle struct{ *collector }

// sameIDs gives the SDK's span the ids of a record.
type sameIDs struct{ r *call.Record }

func (s sameIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, _, _ := ids(s.r)
	return id, s.NewSpanID(ctx, id)
}

func (s sameIDs) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	_, id, _ := ids(s.r)
	return id
}

// span is r as the SDK's span, with attributes as they were received; nil where
// the SDK does not sample it.
func (o oracle) span(t *testing.T, r *call.Record, attributes []attribute.KeyValue) *tracepb.Span {
	t.Helper()
	o.requests = nil
	to, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpoint(o.addr), otlptracegrpc.WithInsecure())
	if err != nil {
		t.Fatal(err)
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithSyncer(to), sdktrace.WithIDGenerator(sameIDs{r})}
	if os.Getenv("OTEL_TRACES_SAMPLER") == "" {
		options = append(options, sdktrace.WithSampler(sdktrace.AlwaysSample()))
	}
	provider := sdktrace.NewTracerProvider(options...)
	tracer := provider.Tracer(scopeName, trace.WithInstrumentationVersion("v1.2.3"), trace.WithSchemaURL(semconv.SchemaURL))
	ctx := context.Background()
	if _, _, parent := ids(r); parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	_, s := tracer.Start(ctx, name(r),
		trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(r.Start))
	s.SetAttributes(attributes...)
	if code, text := status(r); code == tracepb.Status_STATUS_CODE_ERROR {
		s.SetStatus(codes.Error, text)
	}
	s.End(trace.WithTimestamp(r.End()))
	if err := provider.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !s.SpanContext().IsSampled() {
		return nil
	}
	return o.spans()[0]
}

// attributesOf are a span's, as the SDK has them.
func attributesOf(s *tracepb.Span) (all []attribute.KeyValue) {
	values := attrMap(s)
	for _, kv := range s.Attributes {
		switch v := values[kv.Key].(type) {
		case int64:
			all = append(all, attribute.Int64(kv.Key, v))
		case bool:
			all = append(all, attribute.Bool(kv.Key, v))
		case string:
			if kv.Value.GetArrayValue() != nil {
				all = append(all, attribute.StringSlice(kv.Key, []string{strings.Trim(v, "[]")}))
			} else {
				all = append(all, attribute.String(kv.Key, v))
			}
		}
	}
	return all
}

// What leaves is what the SDK would send, to the field: ids, parent, flags,
// times, status, and the attributes as the standard limits leave them.
func TestAgreesWithTheSDK(t *testing.T) {
	full := version()
	full.Code, full.Message, full.Truncated, full.ExitCode = "NOT_FOUND", "größer \xff", true, new(int32)
	full.Image = "reg.example:5000/team/größer:1.27@sha256:abcd"
	full.Pod = call.Pod{Namespace: "shop", Name: "web-0", UID: "6f0c"}
	full.Request, full.Response = json.RawMessage(`{"a":"注文"}`), json.RawMessage(`"`+strings.Repeat("x", 300)+`"`)
	child, state, lost := *full, *full, *version()
	child.ParentSpanID, child.ParentSampled = "00f067aa0ba902b7", true
	state.ParentSpanID, state.TraceState = "00f067aa0ba902b7", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
	lost.State, lost.Code = call.Lost, ""
	before := *version()
	before.Start = before.Start.AddDate(-100, 0, 0)

	o := oracle{startCollector(t)}
	for i, r := range []*call.Record{version(), full, &child, &state, &lost, &before} {
		all := attributesOf(one(t, r))
		for _, limits := range []string{"", "COUNT=5", "COUNT=0", "COUNT=-1", "VALUE_LENGTH=4", "VALUE_LENGTH=0", "COUNT=3 VALUE_LENGTH=7"} {
			t.Run(fmt.Sprint(i, limits), func(t *testing.T) {
				for _, l := range strings.Fields(limits) {
					name, value, _ := strings.Cut(l, "=")
					t.Setenv("OTEL_SPAN_ATTRIBUTE_"+name+"_LIMIT", value)
				}
				if got, want := one(t, r), o.span(t, r, all); !proto.Equal(got, want) {
					t.Errorf("%v\nthe SDK sends\n%v", got, want)
				}
			})
		}
	}
}

// Each sampler that the variable may name keeps what the SDK's keeps.
func TestSamplersAgreeWithTheSDK(t *testing.T) {
	o := oracle{startCollector(t)}
	for _, base := range []string{"always_on", "always_off", "traceidratio", "TraceIDRatio=0.5", "traceidratio=0"} {
		for _, name := range []string{base, "parentbased_" + base} {
			name, arg, _ := strings.Cut(name, "=")
			t.Setenv("OTEL_TRACES_SAMPLER", name)
			t.Setenv("OTEL_TRACES_SAMPLER_ARG", arg)
			s, err := newSampler(os.Getenv)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 12 {
				r := version()
				r.TraceID = fmt.Sprintf("0af7651916cd43dd%x448eb211c80319c", i+1)
				if i%3 > 0 {
					r.ParentSpanID, r.ParentSampled = "00f067aa0ba902b7", i%3 == 1
				}
				if got, want := sampled(s, r), o.span(t, r, nil) != nil; got != want {
					t.Errorf("%s %s: %s of parent %q, sampled %v: %v", name, arg, r.TraceID, r.ParentSpanID, r.ParentSampled, got)
				}
			}
		}
	}
}

// A sampler that there is not is said, and every call is exported.
func TestNoSuchSampler(t *testing.T) {
	for _, list := range []string{"OTEL_TRACES_SAMPLER=never", "OTEL_TRACES_SAMPLER=parentbased_", "OTEL_TRACES_SAMPLER=traceidratio,OTEL_TRACES_SAMPLER_ARG=2"} {
		if s, err := newSampler(env(list)); s != nil || err == nil || !strings.Contains(err.Error(), "OTEL_TRACES_SAMPLER") {
			t.Errorf("%s: %v, %v", list, s, err)
		}
	}
}
