package fakecri

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
)

// A Result is how one call of CallAllCRI or CallAllCSI ended.
type Result struct {
	Method string // full name
	Err    error
}

// Errors joins what failed, for a test that wants nothing to.
func Errors(results []Result) error {
	var errs []error
	for _, r := range results {
		if r.Err != nil {
			errs = append(errs, &callError{r})
		}
	}
	return errors.Join(errs...)
}

type callError struct{ Result }

func (e *callError) Error() string { return e.Method + ": " + e.Err.Error() }
func (e *callError) Unwrap() error { return e.Err }

// A recorder notes each call's end under its method's name, so that what calls need not. A stream ends for it where its
// reader stops: at its end, or with the message that was the last wanted.
type recorder struct {
	invoke  func(ctx context.Context, method string, req, reply any, opts ...grpc.CallOption) error
	streams grpc.ClientConnInterface
	results []Result
}

func (r *recorder) Invoke(ctx context.Context, method string, req, reply any, opts ...grpc.CallOption) error {
	err := r.invoke(ctx, method, req, reply, opts...)
	r.note(method, err)
	return err
}

func (r *recorder) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := r.streams.NewStream(ctx, desc, method, opts...)
	if err != nil {
		r.note(method, err)
		return nil, err
	}
	return &recordedStream{s, r, method}, nil
}

func (r *recorder) note(method string, err error) { r.results = append(r.results, Result{method, err}) }

type recordedStream struct {
	grpc.ClientStream
	r      *recorder
	method string
}

// RecvMsg notes the call at its end.
func (s *recordedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case errors.Is(err, io.EOF):
		s.r.note(s.method, nil)
	case err != nil:
		s.r.note(s.method, err)
	}
	return err
}

// drain reads a stream to its end; err is that of opening it, already noted. What drains so is cri-api's stream type and
// CSI's older one.
func drain[S interface{ Recv() (M, error) }, M any](s S, err error) {
	for err == nil {
		_, err = s.Recv()
	}
}
