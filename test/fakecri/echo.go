package fakecri

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Every fake server also serves example.v1.Echo, a service whose schema nobody has: Say is unary, Chat streams both
// ways, and both give back what they are given. On the wire a message is bytes in field 1.
const (
	EchoSay  = "/example.v1.Echo/Say"
	EchoChat = "/example.v1.Echo/Chat"
)

// Say calls [EchoSay].
func Say(ctx context.Context, conn grpc.ClientConnInterface, b []byte, opts ...grpc.CallOption) ([]byte, error) {
	var out wrapperspb.BytesValue
	err := conn.Invoke(ctx, EchoSay, wrapperspb.Bytes(b), &out, opts...)
	return out.GetValue(), err
}

// Chat calls [EchoChat]: it sends one message after the other, each when the one before has come back, then closes its
// side and waits for the end.
func Chat(ctx context.Context, conn grpc.ClientConnInterface, messages [][]byte, opts ...grpc.CallOption) ([][]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &echoDesc.Streams[0], EchoChat, opts...)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, b := range messages {
		if err := stream.SendMsg(wrapperspb.Bytes(b)); err != nil && !errors.Is(err, io.EOF) { // EOF: RecvMsg has the reason
			return out, err
		}
		var m wrapperspb.BytesValue
		if err := stream.RecvMsg(&m); err != nil {
			return out, err
		}
		out = append(out, m.GetValue())
	}
	if err := stream.CloseSend(); err != nil {
		return out, err
	}
	if err := stream.RecvMsg(new(wrapperspb.BytesValue)); !errors.Is(err, io.EOF) {
		return out, err
	}
	return out, nil
}

type echo struct{}

var echoDesc = grpc.ServiceDesc{
	ServiceName: "example.v1.Echo",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Say", Handler: echo{}.say}},
	Streams:     []grpc.StreamDesc{{StreamName: "Chat", Handler: echo{}.chat, ServerStreams: true, ClientStreams: true}},
}

func (echo) say(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.BytesValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	same := func(_ context.Context, req any) (any, error) { return req, nil }
	return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: EchoSay}, same)
}

func (echo) chat(_ any, stream grpc.ServerStream) error {
	for {
		m := new(wrapperspb.BytesValue)
		switch err := stream.RecvMsg(m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
}
