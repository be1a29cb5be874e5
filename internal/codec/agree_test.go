package codec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// said is what two observers of one call must agree on.
type said struct {
	code                uint32
	message             string
	sent, received      int64
	sentBytes, gotBytes int64
}

// oracle is grpc-go's own word, by stats.Handler, on the client.
type oracle struct {
	mu    sync.Mutex
	calls map[string]*said
	ended sync.WaitGroup
}

type methodKey struct{}

func (o *oracle) TagRPC(ctx context.Context, i *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, methodKey{}, i.FullMethodName)
}
func (o *oracle) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (o *oracle) HandleConn(context.Context, stats.ConnStats)                       {}
func (o *oracle) HandleRPC(ctx context.Context, s stats.RPCStats) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name := ctx.Value(methodKey{}).(string)
	c := o.calls[name]
	if c == nil {
		c = &said{}
		o.calls[name] = c
	}
	switch s := s.(type) {
	case *stats.Begin:
		o.ended.Add(1)
	case *stats.OutPayload:
		c.sent++
		c.sentBytes += int64(s.CompressedLength)
	case *stats.InPayload:
		c.received++
		c.gotBytes += int64(s.CompressedLength)
	case *stats.End:
		c.code, c.message = uint32(status.Code(s.Error)), status.Convert(s.Error).Message()
		o.ended.Done()
	}
}

// tapped is the client's connection with the decoder on it.
type tapped struct {
	net.Conn
	mu   *sync.Mutex
	conn *Conn
}

func (t *tapped) Write(p []byte) (int, error) {
	t.mu.Lock()
	_ = t.conn.Write(Client, time.Now(), p)
	t.mu.Unlock()
	return t.Conn.Write(p)
}

func (t *tapped) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.conn.Write(Server, time.Now(), p[:n])
	return n, err
}

// serve does what the method's name asks for.
func serve(_ any, s grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(s)
	verb, arg, _ := strings.Cut(full[strings.LastIndexByte(full, '/')+1:], "-")
	arg, _, _ = strings.Cut(arg, "-")
	n, _ := strconv.Atoi(arg)
	in := new(wrapperspb.BytesValue)
	switch verb {
	case "trailersonly":
		return status.Error(codes.Code(n), "refused ☃\n"+strings.Repeat("long ", 1800))
	case "hang":
		_ = s.SendHeader(metadata.Pairs("early", "yes"))
		<-s.Context().Done()
		return s.Context().Err()
	}
	if err := s.RecvMsg(in); err != nil {
		return err
	}
	switch verb {
	case "unary":
		s.SetTrailer(metadata.Pairs("x-large", strings.Repeat("t", n)))
		return s.SendMsg(in)
	case "fail":
		return status.Error(codes.Code(n), "failed")
	case "down":
		for i := range n {
			if err := s.SendMsg(wrapperspb.Bytes(make([]byte, i*i))); err != nil {
				return err
			}
		}
		return nil
	}
	for { // echo
		if err := s.SendMsg(in); err != nil {
			return err
		}
		switch err := s.RecvMsg(in); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// Our record of a call equals grpc-go's.
func TestAgreesWithStatsHandler(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "s")
	lis, err := net.Listen("unix", path)
	must(t, err)
	server := grpc.NewServer(grpc.UnknownServiceHandler(serve), grpc.MaxRecvMsgSize(32<<20))
	go func() { _ = server.Serve(lis) }()
	defer server.Stop()

	var mu sync.Mutex
	ours := map[string]*said{}
	early := map[string]bool{} // ended before its deadline, as far as the wire can tell
	decoder := NewConn(DefaultLimits(), NewBuffers(64<<20), func(c *Call) {
		ours[c.Path] = &said{
			code: c.Code, message: c.Message,
			sent: c.Request.Count, sentBytes: c.Request.Bytes,
			received: c.Response.Count, gotBytes: c.Response.Bytes,
		}
		if c.Timeout > 0 && c.End.Sub(c.Start)+deadlineSlack(c.Timeout) < c.Timeout {
			early[c.Path] = true
		}
		if c.Lost {
			t.Errorf("%s was lost: %s", c.Path, c.Message)
		}
	})
	o := &oracle{calls: map[string]*said{}}
	client, err := grpc.NewClient("passthrough:///"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			c, err := net.Dial("unix", path)
			return &tapped{c, &mu, decoder}, err
		}),
		grpc.WithStatsHandler(o), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32<<20)))
	must(t, err)
	defer client.Close()

	var calls sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range 400 {
		slots <- struct{}{}
		calls.Go(func() { randomCall(client, i); <-slots })
	}
	calls.Wait()
	o.ended.Wait()
	// The reset of a cancelled call leaves after the call returned; what
	// follows it on the same connection shows that it has passed.
	flushResets(t, client)

	mu.Lock()
	defer mu.Unlock()
	for name, want := range o.calls {
		if strings.Contains(name, "/flush") {
			continue
		}
		compare(t, name, ours[name], want, early[name])
	}
}

// compare allows for what never came to the wire: a call whose deadline passed
// while its headers were still queued in the client, and the request of a call
// that was over before it was sent. grpc-go counts both when it queues them.
func compare(t *testing.T, name string, got, want *said, early bool) {
	unsent := strings.Contains(name, "/hang") || strings.Contains(name, "/trailersonly")
	if strings.Contains(name, "/hang") {
		if got == nil {
			return
		}
		if want.code == uint32(codes.DeadlineExceeded) && early {
			want.code = uint32(codes.Canceled)
		}
		want.message = map[uint32]string{1: "context canceled", 4: "context deadline exceeded"}[want.code]
	}
	if got == nil {
		t.Errorf("%s: no record", name)
		return
	}
	if unsent && want.code == 0 && want.sent == 0 {
		// The status came before the client could send: grpc-go returns it to
		// the caller, but tells its stats.Handler io.EOF, which is no error.
		want.code, want.message = got.code, got.message
	}
	if unsent && got.sent <= want.sent && got.sentBytes <= want.sentBytes {
		want.sent, want.sentBytes = got.sent, got.sentBytes
	}
	if *got != *want {
		t.Errorf("%s:\n  ours    %+v\n  grpc-go %+v", name, *got, *want)
	}
}

func flushResets(t *testing.T, client *grpc.ClientConn) {
	out := new(wrapperspb.BytesValue)
	must(t, client.Invoke(context.Background(), "/t.S/flush-0", wrapperspb.Bytes(nil), out))
}

func randomCall(client *grpc.ClientConn, i int) {
	r := rand.New(rand.NewPCG(uint64(i), 3))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	in, out := wrapperspb.Bytes(make([]byte, r.IntN(40_000))), new(wrapperspb.BytesValue)
	name := func(verb string, n int) string { return fmt.Sprintf("/t.S/%s-%d-%d", verb, n, i) }
	var opts []grpc.CallOption
	if r.IntN(3) == 0 {
		opts = append(opts, grpc.UseCompressor(gzip.Name))
	}
	switch r.IntN(7) {
	case 0:
		_ = client.Invoke(ctx, name("unary", r.IntN(12_000)), in, out, opts...)
	case 1:
		_ = client.Invoke(ctx, name("trailersonly", 1+r.IntN(16)), in, out, opts...)
	case 2:
		_ = client.Invoke(ctx, name("fail", 1+r.IntN(20)), in, out, opts...)
	case 3:
		ctx, cancel := context.WithTimeout(ctx, time.Duration(1+r.IntN(200))*time.Millisecond)
		defer cancel()
		_ = client.Invoke(ctx, name("hang", 0), in, out, opts...)
	case 4:
		ctx, cancel := context.WithCancel(ctx)
		s, err := client.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, name("hang", 0))
		if err == nil {
			_, _ = s.Header()
		}
		cancel()
		_ = s.RecvMsg(out)
	case 5:
		_ = drain(client.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, name("down", r.IntN(200)), opts...))
	case 6:
		s, err := client.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, name("echo", 0), opts...)
		for range r.IntN(20) {
			if err == nil && s.SendMsg(in) == nil {
				_ = s.RecvMsg(out)
			}
		}
		_ = drain(s, err)
	}
}

func drain(s grpc.ClientStream, err error) error {
	if err != nil {
		return err
	}
	if d := s.SendMsg(wrapperspb.Bytes([]byte("last"))); d != nil {
		return d
	}
	_ = s.CloseSend()
	for err == nil {
		err = s.RecvMsg(new(wrapperspb.BytesValue))
	}
	return err
}
