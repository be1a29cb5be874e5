package e2e

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// counted is what two observers of one call must agree on.
type counted struct {
	Method              string // "runtime.v1.RuntimeService/Version"
	Code                string
	Sent, Received      int64 // messages
	SentBytes, GotBytes int64 // as on the wire, without gRPC's prefixes
}

// oracle is grpc-go's own word on the calls of a client, by stats.Handler.
type oracle struct {
	mu    sync.Mutex
	calls []*counted
	open  sync.WaitGroup
}

// option makes a kubelet's connections report to the oracle.
func (o *oracle) option() fakecri.Option {
	return fakecri.WithDialOptions(grpc.WithStatsHandler(o))
}

type oracleKey struct{}

func (o *oracle) TagRPC(ctx context.Context, i *stats.RPCTagInfo) context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &counted{Method: strings.TrimPrefix(i.FullMethodName, "/")}
	o.calls = append(o.calls, c)
	o.open.Add(1)
	return context.WithValue(ctx, oracleKey{}, c)
}

func (o *oracle) HandleRPC(ctx context.Context, s stats.RPCStats) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := ctx.Value(oracleKey{}).(*counted)
	switch s := s.(type) {
	case *stats.OutPayload:
		c.Sent++
		c.SentBytes += int64(s.CompressedLength)
	case *stats.InPayload:
		c.Received++
		c.GotBytes += int64(s.CompressedLength)
	case *stats.End:
		c.Code = codeName(s.Error)
		o.open.Done()
	}
}

func (o *oracle) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (o *oracle) HandleConn(context.Context, stats.ConnStats)                       {}

// codeName is google/rpc/code.proto's name of an error's code, or what grpc-go
// prints of a code that has none.
func codeName(err error) string {
	c := status.Code(err)
	if name, ok := code.Code_name[int32(c)]; ok {
		return name
	}
	return fmt.Sprintf("CODE(%d)", c)
}

// compare holds that each call has one record, with the same counts. It is for
// when all calls have ended and grpc-tap has too.
func (o *oracle) compare(t *testing.T, records []Record) {
	t.Helper()
	o.open.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	var want, got []counted
	for _, c := range o.calls {
		want = append(want, *c)
	}
	for _, r := range records {
		got = append(got, counted{
			Method: r.Service + "/" + r.Method, Code: r.Code,
			Sent: r.RequestMessages, SentBytes: r.RequestBytes,
			Received: r.ResponseMessages, GotBytes: r.ResponseBytes,
		})
	}
	order := func(a, b counted) int {
		return cmp.Or(cmp.Compare(a.Method, b.Method), cmp.Compare(a.Code, b.Code),
			cmp.Compare(a.Sent, b.Sent), cmp.Compare(a.SentBytes, b.SentBytes),
			cmp.Compare(a.Received, b.Received), cmp.Compare(a.GotBytes, b.GotBytes))
	}
	slices.SortFunc(want, order)
	slices.SortFunc(got, order)
	if len(got) != len(want) {
		t.Errorf("%d records of %d calls", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		// grpc-go counts a message when the client takes it; what a client that
		// cancels leaves untaken has passed all the same.
		if g, w := &got[i], &want[i]; w.Code == "CANCELLED" && g.Received >= w.Received && g.GotBytes >= w.GotBytes {
			w.Received, w.GotBytes = g.Received, g.GotBytes
		}
		if got[i] != want[i] {
			t.Errorf("a record and grpc-go differ:\nrecord  %+v\ngrpc-go %+v", got[i], want[i])
		}
	}
}
