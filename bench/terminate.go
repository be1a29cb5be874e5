package main

import (
	"context"
	"errors"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// terminate is the other way to see calls: a grpc-go server for whatever service, which makes each call anew to the upstream.
// Messages pass as they are, in grpc-go's own pooled buffers: it costs no more than it must.
func terminate(ctx context.Context, listen, upstream string) error {
	lis, err := net.Listen("unix", listen)
	if err != nil {
		return err
	}
	back, err := grpc.NewClient("passthrough:///"+upstream,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(longest)))
	if err != nil {
		return err
	}
	defer back.Close()
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(longest),
		grpc.UnknownServiceHandler(func(_ any, in grpc.ServerStream) error { return again(in, back) }))
	context.AfterFunc(ctx, server.Stop)
	return server.Serve(lis)
}

// longest is the kubelet's limit for a message.
const longest = 16 << 20

// again makes a call anew: the request's messages one way, headers, messages and trailers the other.
func again(in grpc.ServerStream, back *grpc.ClientConn) error {
	method, ok := grpc.MethodFromServerStream(in)
	if !ok {
		return status.Error(codes.Internal, "no method")
	}
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, md.Copy())
	}
	out, err := back.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			var m raw
			if in.RecvMsg(&m) != nil || out.SendMsg(&m) != nil {
				_ = out.CloseSend()
				return
			}
		}
	}()
	for first := true; ; first = false {
		var m raw
		err := out.RecvMsg(&m)
		if err != nil {
			in.SetTrailer(out.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if first {
			if md, err := out.Header(); err == nil {
				_ = in.SetHeader(md)
			}
		}
		if err := in.SendMsg(&m); err != nil {
			return err
		}
	}
}

// raw is a message as it came.
type raw struct{ data mem.BufferSlice }

// rawCodec hands a message's buffers from one grpc-go to the other.
type rawCodec struct{}

// Name is that of the codec it stands for, so that the content-type stays.
func (rawCodec) Name() string { return "proto" }

// Marshal gives the buffers away.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) { return v.(*raw).data, nil }

// Unmarshal takes the buffers, which grpc-go would free.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	data.Ref()
	v.(*raw).data = data
	return nil
}
