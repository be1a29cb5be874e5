package main

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

// collector takes spans over OTLP and counts them, without unpacking more than that takes: the client is in this process too.
type collector struct {
	address string
	spans   atomic.Int64
}

var errNotSpans = errors.New("not an OTLP request")

// collect serves a collector until ctx is done.
func collect(ctx context.Context) (*collector, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &collector{address: lis.Addr().String()}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(longest),
		grpc.UnknownServiceHandler(func(_ any, in grpc.ServerStream) error {
			var m raw
			if err := in.RecvMsg(&m); err != nil {
				return err
			}
			n, err := countSpans(m.data.Materialize())
			m.data.Free()
			if err != nil {
				return err
			}
			c.spans.Add(n)
			return in.SendMsg(&raw{}) // all of them were taken
		}))
	context.AfterFunc(ctx, server.Stop)
	go func() { _ = server.Serve(lis) }()
	return c, nil
}

// countSpans walks ExportTraceServiceRequest.resource_spans(1).scope_spans(2).spans(2).
func countSpans(request []byte) (int64, error) {
	var n int64
	err := each(request, 1, func(resource []byte) error {
		return each(resource, 2, func(scope []byte) error {
			return each(scope, 2, func([]byte) error { n++; return nil })
		})
	})
	return n, err
}

// each visits the values of one length-delimited field.
func each(message []byte, field protowire.Number, visit func([]byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errNotSpans
		}
		message = message[n:]
		size := protowire.ConsumeFieldValue(number, kind, message)
		if size < 0 {
			return errNotSpans
		}
		if number == field && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			if err := visit(value); err != nil {
				return err
			}
		}
		message = message[size:]
	}
	return nil
}
