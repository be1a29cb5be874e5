package tier

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/span"
)

// Fleet is many nodes. Each has what an agent exports spans with, and so a connection,
// a queue and counters of its own, and is at a time of its own on the same tape.
type Fleet struct {
	nodes []*node
	tape  Tape
	Given map[string]string // span → trace: each that was given to an exporter
	said  said
}

type node struct {
	exporter *span.Exporter
	ids      string // begin like this, in hex
	at       int    // second of the tape
}

// Counts are what the agents' exporters say, together.
type Counts struct{ Given, Exported, Dropped uint64 }

// NewFleet makes nodes that export to endpoint; they end with the test.
func NewFleet(t testing.TB, nodes int, endpoint string, tape Tape) *Fleet {
	t.Helper()
	f := &Fleet{tape: tape, Given: map[string]string{}}
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", patience)
	random := rand.New(rand.NewPCG(7, uint64(nodes)))
	for i := range nodes {
		t.Setenv("NODE_NAME", fmt.Sprintf("node-%04d", i)) // the resource is read from there
		e, err := span.New(t.Context(), span.Options{Endpoint: endpoint, Insecure: true, Version: "simulated", Log: slog.New(slog.NewTextHandler(&f.said, nil))})
		if err != nil {
			t.Fatal(err)
		}
		// The low bits tell nodes apart, the others are as random as an id's.
		ids := fmt.Sprintf("%08x", random.Uint32()&^0x1fff|uint32(i))
		f.nodes = append(f.nodes, &node{exporter: e, ids: ids, at: random.IntN(len(tape))})
	}
	t.Cleanup(func() {
		f.Close()
		f.said.tell(t)
	})
	return f
}

// Play plays seconds of the tape, each in so much time, the nodes evenly spread over it.
func (f *Fleet) Play(seconds int, each time.Duration) {
	begin := time.Now()
	const steps = 50
	for step := range seconds * steps {
		time.Sleep(time.Until(begin.Add(time.Duration(step) * each / steps)))
		slot := step % steps
		for _, n := range f.nodes[len(f.nodes)*slot/steps : len(f.nodes)*(slot+1)/steps] {
			f.give(n, f.tape[n.at])
			n.at = (n.at + 1) % len(f.tape)
			if n.at == 0 { // another day, other traces
				n.ids = fmt.Sprintf("%08x", rand.Uint32())
			}
		}
	}
}

// Exported is how many spans collectors have taken so far.
func (f *Fleet) Exported() (n uint64) {
	for _, node := range f.nodes {
		n += node.exporter.Stats().Exported
	}
	return n
}

// Connect has each node export a span of its own, so that all are connected: a thousand in
// a second, since it is not dialling that is looked at.
func (f *Fleet) Connect() {
	begin := time.Now()
	for i, n := range f.nodes {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Millisecond)))
		id := fmt.Sprintf("%08x%08x", i+1, rand.Uint32())
		f.give(n, []Told{{Record: &call.Record{
			Service: "runtime.v1.RuntimeService", Method: "Version", State: call.Done, Code: "OK",
			TraceID: fmt.Sprintf("%032x", rand.Uint64()|1), SpanID: id, Sampled: true,
		}}})
	}
}

// give hands a node's exporter what a second has.
func (f *Fleet) give(n *node, all []Told) {
	if len(all) == 0 {
		return
	}
	var records []*call.Record
	var ended []*call.Phase
	var failing []*call.Failing
	for _, told := range all {
		told = told.Of(n.ids, time.Now())
		trace, span := told.ID()
		f.Given[span] = trace
		switch {
		case told.Record != nil:
			records = append(records, told.Record)
		case told.Phase != nil:
			ended = append(ended, told.Phase)
		default:
			failing = append(failing, told.Failing)
		}
	}
	n.exporter.Records(records)
	n.exporter.Phases(ended, failing)
}

// Counts are those so far.
func (f *Fleet) Counts() Counts {
	c := Counts{Given: uint64(len(f.Given)), Exported: f.Exported()}
	for _, n := range f.nodes {
		for _, dropped := range n.exporter.Stats().Dropped {
			c.Dropped += dropped
		}
	}
	return c
}

// Settle waits until each span is exported or dropped.
func (f *Fleet) Settle(t testing.TB) Counts {
	t.Helper()
	until(t, "each span is exported or dropped", func() bool {
		c := f.Counts()
		return c.Exported+c.Dropped == c.Given
	})
	return f.Counts()
}

// Close has the agents export what they have, and end.
func (f *Fleet) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), eventually)
	defer cancel()
	var all sync.WaitGroup
	for _, n := range f.nodes {
		all.Go(func() { _ = n.exporter.Shutdown(ctx) })
	}
	all.Wait()
}

// said is what the agents log: each cause of a failure is told once.
type said struct {
	mu     sync.Mutex
	causes map[string]int
}

var failing = regexp.MustCompile(`cause="?([^":]*)`)

func (s *said) Write(line []byte) (int, error) {
	if m := failing.FindSubmatch(line); m != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.causes == nil {
			s.causes = map[string]int{}
		}
		s.causes[string(m[1])]++
	}
	return len(line), nil
}

func (s *said) tell(t testing.TB) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cause, n := range s.causes {
		t.Logf("%d agents: %s", n, cause)
	}
}
