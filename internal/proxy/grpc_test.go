package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Real grpc-go at both ends: no call is lost to a SendOff, and the client dials
// the path anew, which leads to another relay by then.

const callTime = time.Minute // is only for a test that fails

// service answers a number by a message of so many bytes (Call), or by so many
// messages, each when it is let (Stream).
type service struct{ let chan struct{} }

func (s service) call(_ context.Context, in *wrapperspb.Int64Value) (*wrapperspb.BytesValue, error) {
	return wrapperspb.Bytes(make([]byte, in.Value)), nil
}

func (s service) stream(in *wrapperspb.Int64Value, out grpc.ServerStream) error {
	for range in.Value {
		select {
		case <-s.let:
		case <-out.Context().Done():
			return out.Context().Err()
		}
		if err := out.SendMsg(wrapperspb.Bytes([]byte("one"))); err != nil {
			return err
		}
	}
	return nil
}

func (s service) desc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "test.S", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Call", Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.Int64Value)
			if err := dec(in); err != nil {
				return nil, err
			}
			return s.call(ctx, in)
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, Handler: func(_ any, out grpc.ServerStream) error {
			in := new(wrapperspb.Int64Value)
			if err := out.RecvMsg(in); err != nil {
				return err
			}
			return s.stream(in, out)
		}}},
	}
}

// node is a path whose relays follow one another, before a gRPC server.
type node struct {
	t        *testing.T
	service  service
	upstream string
	path     string
	lis      *net.UnixListener
	relay    *Relay
	accepts  sync.WaitGroup
}

func newNode(t *testing.T) *node {
	dir := t.TempDir()
	n := &node{t: t, service: service{make(chan struct{})}, upstream: filepath.Join(dir, "up"), path: filepath.Join(dir, "path")}
	server := grpc.NewServer()
	server.RegisterService(n.service.desc(), n.service)
	up := listenUnix(t, n.upstream)
	go func() { _ = server.Serve(up) }()
	n.lis = listenUnix(t, n.path)
	n.serve()
	t.Cleanup(func() {
		server.Stop()
		n.pause()
		_ = n.lis.Close()
		n.relay.Drain(context.Background(), time.Nanosecond)
	})
	return n
}

func (n *node) serve() {
	n.relay = New(Options{Dial: func() (*net.UnixConn, error) { return Dial(n.upstream) }})
	n.accepts.Go(func() { n.relay.Accept(context.Background(), n.lis) })
}

func (n *node) pause() {
	_ = n.lis.SetDeadline(time.Now())
	n.accepts.Wait()
}

// succeed has another relay serve the path. It returns the former.
func (n *node) succeed() *Relay {
	old := n.relay
	n.pause()
	_ = n.lis.SetDeadline(time.Time{})
	n.serve()
	return old
}

// drained waits until nobody is left at a relay.
func (n *node) drained(r *Relay) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	if r.Drain(ctx, 0); ctx.Err() != nil {
		n.t.Errorf("these stay: %+v", r.Clients())
	}
}

// client dials as the kubelet does.
func (n *node) client() *grpc.ClientConn {
	n.t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+n.path,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)),
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func call(cc *grpc.ClientConn, size int) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	out := new(wrapperspb.BytesValue)
	if err := cc.Invoke(ctx, "/test.S/Call", wrapperspb.Int64(int64(size)), out); err != nil {
		return err
	}
	if len(out.Value) != size {
		return errors.New("the answer has another size")
	}
	return nil
}

// callers call as fast as they can.
type callers struct {
	done  []atomic.Uint64 // calls, of each
	stop  atomic.Bool
	tasks sync.WaitGroup
}

func startCallers(t *testing.T, cc *grpc.ClientConn, many, size int) *callers {
	c := &callers{done: make([]atomic.Uint64, many)}
	for i := range many {
		c.tasks.Go(func() {
			for !c.stop.Load() {
				if err := call(cc, size); err != nil {
					t.Errorf("call %d: %v", c.done[i].Load(), err)
					return
				}
				c.done[i].Add(1)
			}
		})
	}
	t.Cleanup(c.end)
	return c
}

func (c *callers) end() {
	c.stop.Store(true)
	c.tasks.Wait()
}

// more waits until every caller has ended so many calls: with one, the call that
// was sent elsewhere by the last GOAWAY is over. grpc-go sends none twice.
func (c *callers) more(t *testing.T, n uint64) {
	t.Helper()
	for i := range c.done {
		want := c.done[i].Load() + n
		await(t, "calls", func() bool { return c.done[i].Load() >= want || t.Failed() })
	}
}

func TestSendOffLosesNoCall(t *testing.T) {
	for name, c := range map[string]struct{ many, size, rounds int }{
		"small": {4, 100, 20},
		"large": {2, 4 << 20, 5},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			calls := startCallers(t, n.client(), c.many, c.size)
			for range c.rounds {
				calls.more(t, 1)
				old := n.succeed()
				old.SendOff()
				n.drained(old)
			}
			calls.more(t, 1)
			calls.end()
			if len(n.relay.Clients()) != 1 {
				t.Errorf("clients %+v", n.relay.Clients())
			}
		})
	}
}

// A client whose path still leads to the relay that sent it off comes back once,
// and stays.
func TestWhoComesBackStays(t *testing.T) {
	n := newNode(t)
	calls := startCallers(t, n.client(), 4, 100)
	calls.more(t, 3)
	n.relay.SendOff()
	await(t, "the client to come back", func() bool {
		c := n.relay.Clients()
		return len(c) == 1 && c[0].Kept || t.Failed()
	})
	calls.more(t, 30)
	if c := n.relay.Clients(); len(c) != 1 || !c[0].Kept {
		t.Errorf("clients %+v", c)
	}
	calls.end()
}

func TestAStreamSurvivesSendOff(t *testing.T) {
	n := newNode(t)
	cc := n.client()
	const messages = 10
	s := stream(t, cc, messages)
	receiveOne := func() {
		n.service.let <- struct{}{}
		if err := s.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
			t.Fatal(err)
		}
	}
	receiveOne()
	old := n.succeed()
	old.SendOff()
	await(t, "a call to go elsewhere", func() bool {
		if err := call(cc, 1); err != nil {
			t.Fatal(err)
		}
		return len(n.relay.Clients()) == 1
	})
	if len(old.Clients()) != 1 {
		t.Error("the stream has no connection any more")
	}
	for range messages - 1 {
		receiveOne()
	}
	if err := s.RecvMsg(new(wrapperspb.BytesValue)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	n.drained(old)
}

func stream(t *testing.T, cc *grpc.ClientConn, messages int64) grpc.ClientStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	t.Cleanup(cancel)
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/test.S/Stream")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SendMsg(wrapperspb.Int64(messages)), s.CloseSend()); err != nil {
		t.Fatal(err)
	}
	return s
}

// An idle client leaves by itself, without another call.
func TestAnIdleClientLeaves(t *testing.T) {
	n := newNode(t)
	cc := n.client()
	if err := call(cc, 1); err != nil {
		t.Fatal(err)
	}
	old := n.succeed()
	old.SendOff()
	n.drained(old)
	if err := call(cc, 1); err != nil {
		t.Error(err)
	}
}

// A connection that begins late is told, and its first call comes to its end.
func TestALateClientLosesNoCall(t *testing.T) {
	for range 10 {
		n := newNode(t)
		n.relay.SendOff()
		if err := call(n.client(), 1); err != nil {
			t.Error(err)
		}
	}
}
