package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// heard is all that a client gets to know of the answer to a call.
type heard struct {
	Method          string
	Ended           bool
	Code            codes.Code
	Message         string
	Details         string
	Header, Trailer metadata.MD
	Messages        []string // each as the ear was told to keep it
	Bytes           int      // of the messages
}

// ear keeps what a client hears, in the order of its calls.
type ear struct {
	keep func(proto.Message) string

	mu    sync.Mutex
	calls []*heard
}

// exactly keeps a message so that two are the same only if every byte is.
func exactly(m proto.Message) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d bytes, sha256 %x", len(b), sha256.Sum256(b))
}

// options make a kubelet's connections be heard.
func (e *ear) option() fakecri.Option {
	return fakecri.WithDialOptions(grpc.WithChainUnaryInterceptor(e.unary), grpc.WithChainStreamInterceptor(e.stream))
}

func (e *ear) begin(method string) *heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := &heard{Method: method}
	e.calls = append(e.calls, h)
	return h
}

func (e *ear) message(h *heard, m any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h.Messages = append(h.Messages, e.keep(m.(proto.Message)))
	h.Bytes += proto.Size(m.(proto.Message))
}

func (e *ear) end(h *heard, err error, header, trailer metadata.MD) {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := status.Convert(err)
	h.Ended, h.Code, h.Message, h.Details = true, st.Code(), st.Message(), fmt.Sprint(st.Details())
	h.Header, h.Trailer = header, trailer
}

func (e *ear) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	h := e.begin(method)
	var header, trailer metadata.MD
	err := invoke(ctx, method, req, reply, cc, append(slices.Clone(opts), grpc.Header(&header), grpc.Trailer(&trailer))...)
	if err == nil {
		e.message(h, reply)
	}
	e.end(h, err, header, trailer)
	return err
}

func (e *ear) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	h := e.begin(method)
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		e.end(h, err, nil, nil)
		return nil, err
	}
	return &heardStream{s, e, h}, nil
}

type heardStream struct {
	grpc.ClientStream
	e *ear
	h *heard
}

func (s *heardStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case err == nil:
		s.e.message(s.h, m)
	default:
		header, _ := s.Header()
		end := err
		if errors.Is(err, io.EOF) {
			end = nil
		}
		s.e.end(s.h, end, header, s.Trailer())
	}
	return err
}

// last is what was heard of the last call.
func (e *ear) last() heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	return *e.calls[len(e.calls)-1]
}

// heardSame holds that two clients that asked the same were told the same.
func heardSame(t *testing.T, direct, through heard) {
	t.Helper()
	same := direct.Method == through.Method && direct.Ended == through.Ended &&
		direct.Code == through.Code && direct.Message == through.Message && direct.Details == through.Details &&
		maps.EqualFunc(direct.Header, through.Header, slices.Equal) &&
		maps.EqualFunc(direct.Trailer, through.Trailer, slices.Equal) &&
		slices.Equal(direct.Messages, through.Messages)
	if !same {
		t.Errorf("%s is answered\ndirectly %+v\nthrough  %+v", direct.Method, direct, through)
	}
}
