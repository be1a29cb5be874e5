package fakecri_test

import (
	"context"
	"path"
	"sync"

	"google.golang.org/grpc/stats"
)

// calls is a stats.Handler that notes what went by: the oracle of these tests.
type calls struct {
	mu      sync.Mutex
	names   []string
	parents []string
	in      stats.InPayload
}

func (c *calls) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names = append(c.names, path.Base(info.FullMethodName))
	return ctx
}

func (c *calls) HandleRPC(_ context.Context, s stats.RPCStats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s := s.(type) {
	case *stats.InHeader:
		parent := ""
		if v := s.Header.Get("traceparent"); len(v) > 0 {
			parent = v[0]
		}
		c.parents = append(c.parents, parent)
	case *stats.InPayload:
		c.in = *s
	}
}

func (c *calls) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (c *calls) HandleConn(context.Context, stats.ConnStats)                       {}

func (c *calls) traceparents() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parents
}

func (c *calls) payload() stats.InPayload {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in
}
