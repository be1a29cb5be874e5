package fakecri

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// A Script says which methods do something other than answer plausibly. Its zero value changes nothing.
type Script struct {
	stopping <-chan struct{}

	mu    sync.Mutex
	rules map[string][]*Step
}

// On sets the steps of a method ("/runtime.v1.RuntimeService/StartContainer"), or of every method that has none of its own
// ("*"), in place of those it had; without steps the method is plausible again. Each call takes the steps in order. If one
// of them fails, that ends the call; if none failed and none replied, the method gives its own answer.
func (s *Script) On(method string, steps ...Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules == nil {
		s.rules = map[string][]*Step{}
	}
	delete(s.rules, method)
	for _, st := range steps {
		s.rules[method] = append(s.rules[method], &st)
	}
}

// A Step is one thing that a scripted call does.
type Step struct {
	limited bool
	left    int
	do      func(*call) error
}

// Times limits a step to the next n calls; later ones go on as if it were not there.
func (st Step) Times(n int) Step {
	st.limited, st.left = true, n
	return st
}

// Delay waits, or until the call's context ends.
func Delay(d time.Duration) Step {
	return Step{do: func(c *call) error { return c.wait(d) }}
}

// Hang answers nothing until the call's context ends.
func Hang() Step {
	return Step{do: (*call).hang}
}

// Fail ends the call with a status, which carries details such as *errdetails.ErrorInfo.
func Fail(code codes.Code, message string, details ...proto.Message) Step {
	st := &spb.Status{Code: int32(code), Message: message}
	for _, d := range details {
		a, err := anypb.New(d)
		if err != nil {
			panic(fmt.Sprintf("fakecri.Fail: detail %T: %v", d, err)) // a mistake in the test's own text
		}
		st.Details = append(st.Details, a)
	}
	return Step{do: func(*call) error { return status.ErrorProto(st) }}
}

// Header sends the initial headers now, before any message.
func Header(md metadata.MD) Step {
	return Step{do: func(c *call) error {
		c.headed = true
		return grpc.SendHeader(c.ctx, md)
	}}
}

// Trailer adds md to the trailers, whatever the call's end.
func Trailer(md metadata.MD) Step {
	return Step{do: func(c *call) error { return grpc.SetTrailer(c.ctx, md) }}
}

// Reply answers in the method's place: with the message f returns, or its error. On a server-streaming method it is one
// message of the stream.
func Reply(f func(req any) (any, error)) Step {
	return Step{do: func(c *call) error {
		req, err := c.request()
		if err != nil {
			return err
		}
		m, err := f(req)
		if err != nil {
			return err
		}
		return c.reply(m)
	}}
}

// Stream answers a streaming method with n messages, one each interval.
func Stream(n int, interval time.Duration, message func(i int) any) Step {
	return Step{do: func(c *call) error {
		if c.stream == nil {
			return status.Errorf(codes.Internal, "fakecri: Stream on unary %s", c.method)
		}
		if _, err := c.request(); err != nil {
			return err
		}
		c.replied = true // also when n is 0
		for i := range n {
			if i > 0 {
				if err := c.wait(interval); err != nil {
					return err
				}
			}
			if err := c.reply(message(i)); err != nil {
				return err
			}
		}
		return nil
	}}
}

// Grow makes each message of the answer as large as total bytes, and no larger, by repeating the entries of its first list
// under new ids. Give it before a Reply or Stream whose messages it shall grow.
func Grow(total int) Step {
	return Step{do: func(c *call) error {
		c.edits = append(c.edits, func(m any) (any, error) { return grow(m, total) })
		return nil
	}}
}

// due returns the steps that the next call of method takes, and counts them.
func (s *Script) due(method string) []*Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	rule, ok := s.rules[method]
	if !ok {
		rule = s.rules["*"]
	}
	var due []*Step
	for _, st := range rule {
		if st.limited && st.left == 0 {
			continue
		}
		st.left--
		due = append(due, st)
	}
	return due
}

func (s *Script) play(c *call) error {
	for _, st := range s.due(c.method) {
		if err := st.do(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Script) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	c := &call{ctx: ctx, stopping: s.stopping, method: info.FullMethod, req: req}
	if err := s.play(c); err != nil {
		return nil, err
	}
	if c.replied {
		return c.answer, nil
	}
	m, err := handle(ctx, req)
	if err != nil {
		return nil, err
	}
	return c.edit(m)
}

func (s *Script) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	c := &call{ctx: ss.Context(), stopping: s.stopping, method: info.FullMethod, stream: ss, clientStreams: info.IsClientStream}
	if err := s.play(c); err != nil || c.replied {
		return err
	}
	return handle(srv, &editedStream{ss, c})
}

// editedStream applies a call's edits to what the method itself sends, whose headers yield to those of the script.
type editedStream struct {
	grpc.ServerStream
	c *call
}

func (s *editedStream) SendHeader(md metadata.MD) error {
	if s.c.headed {
		return nil
	}
	return s.ServerStream.SendHeader(md)
}

func (s *editedStream) SendMsg(m any) error {
	m, err := s.c.edit(m)
	if err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}

// descriptorName turns "/runtime.v1.RuntimeService/Version" into "runtime.v1.RuntimeService.Version".
func descriptorName(method string) string {
	return strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
}
