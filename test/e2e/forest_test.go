package e2e

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
)

// A forest is what a backend has when several components send their spans to it:
// traces that are trees of spans, with links between them.
type forest map[string]*tree // by span id

// tree is a span and what is below it.
type tree struct {
	*trace.Span
	from     string // service.name
	children []*tree
}

// Tracer is for a component that traces natively, into the collector.
func (c *Collector) Tracer(t testing.TB, service string, sampler sdk.Sampler) *sdk.TracerProvider {
	t.Helper()
	to, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpoint(c.Address), otlptracegrpc.WithInsecure())
	if err != nil {
		t.Fatal(err)
	}
	tp := sdk.NewTracerProvider(sdk.WithSyncer(to), sdk.WithSampler(sampler),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", service))))
	t.Cleanup(func() { tp.Shutdown(context.Background()) })
	return tp
}

// Forest is what has come so far.
func (c *Collector) Forest() forest {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := forest{}
	for id, span := range c.spans {
		f[id] = &tree{Span: span, from: c.from[id]}
	}
	for _, s := range f {
		if up := f.parent(s); up != nil {
			up.children = append(up.children, s)
		}
	}
	for _, s := range f {
		inOrder(s.children)
	}
	return f
}

// parent is the span above s: of the id that s names, and in the same trace.
func (f forest) parent(s *tree) *tree {
	return f.find(s.GetTraceId(), s.GetParentSpanId())
}

func (f forest) find(traceID, spanID []byte) *tree {
	s := f[hex.EncodeToString(spanID)]
	if s == nil || string(s.GetTraceId()) != string(traceID) {
		return nil
	}
	return s
}

// links are the names of the spans that s links to, sorted: calls on two sockets
// are placed in no order.
func (f forest) links(s *tree) (to []string) {
	for _, l := range s.GetLinks() {
		to = append(to, f.find(l.GetTraceId(), l.GetSpanId()).String())
	}
	slices.Sort(to)
	return to
}

// where are the spans that a service has sent, in the order in which they began.
func (f forest) where(from string, is func(*tree) bool) (all []*tree) {
	for _, s := range f {
		if s.from == from && is(s) {
			all = append(all, s)
		}
	}
	inOrder(all)
	return all
}

// inOrder sorts spans by who sent them, and then by time: clocks of one process
// are not held against another's.
func inOrder(all []*tree) {
	slices.SortFunc(all, func(a, b *tree) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.GetStartTimeUnixNano(), b.GetStartTimeUnixNano()), cmp.Compare(a.GetName(), b.GetName()))
	})
}

// draw has a line for each span that is wanted: who sent it, its name, how it
// failed or, of a pod's root, how it went, and after an arrow what it links to.
func (f forest) draw(want func(*tree) bool) string {
	var roots []*tree
	for _, s := range f {
		if f.parent(s) == nil && want(s) {
			roots = append(roots, s)
		}
	}
	inOrder(roots)
	var b strings.Builder
	for _, s := range roots {
		f.drawTree(&b, s, want, "")
	}
	return b.String()
}

func (f forest) drawTree(b *strings.Builder, s *tree, want func(*tree) bool, indent string) {
	fmt.Fprintf(b, "%s%s: %s%s", indent, s.from, s, s.outcome())
	if len(s.GetParentSpanId()) > 0 && f.parent(s) == nil {
		b.WriteString(" (under a span that nobody has)")
	}
	if to := f.links(s); len(to) > 0 {
		b.WriteString(" -> " + strings.Join(to, ", "))
	}
	b.WriteString("\n")
	for _, child := range s.children {
		if want(child) {
			f.drawTree(b, child, want, indent+"  ")
		}
	}
}

// String is the span's name, and of a call its method's.
func (s *tree) String() string {
	if s == nil {
		return "a span that nobody has"
	}
	name := s.GetName()
	if s.is("rpc.system.name") != "" {
		name = name[strings.LastIndex(name, "/")+1:]
	}
	return name
}

func (s *tree) outcome() string {
	a := attributes(s.GetAttributes())
	if how := s.is("grpc_tap.pod.outcome"); how != "" {
		return fmt.Sprintf(" %s, %d calls, %d failed", how, a["grpc_tap.pod.calls"].GetIntValue(), a["grpc_tap.pod.failures"].GetIntValue())
	}
	if s.failed() {
		return " " + cmp.Or(s.is("rpc.response.status_code"), "ERROR")
	}
	return ""
}

func (s *tree) failed() bool { return s.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR }

// is a string attribute's value.
func (s *tree) is(key string) string { return attributes(s.GetAttributes())[key].GetStringValue() }
