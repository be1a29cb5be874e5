package fakecri

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// A call is one call on its way through its script's steps.
type call struct {
	ctx      context.Context
	stopping <-chan struct{}
	method   string
	edits    []func(any) (any, error) // what becomes of each message of the answer

	req           any               // unary, or once a step asked for it
	stream        grpc.ServerStream // nil for a unary call
	clientStreams bool

	headed  bool // the script has sent the headers
	replied bool
	answer  any // unary
}

// wait returns after d, with an error if the call ended first.
func (c *call) wait(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return status.FromContextError(c.ctx.Err()).Err()
	}
}

// hang returns when the call's context ends, or when the server is stopping.
func (c *call) hang() error {
	select {
	case <-c.ctx.Done():
		return status.FromContextError(c.ctx.Err()).Err()
	case <-c.stopping:
		return errStopping
	}
}

// request returns the request, which of a server-streaming call is first to be read. A client's stream is left unread.
func (c *call) request() (any, error) {
	if c.req != nil || c.clientStreams {
		return c.req, nil
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(descriptorName(c.method)))
	if err != nil {
		return nil, status.Errorf(codes.Internal, "fakecri: %s: %v", c.method, err)
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.(protoreflect.MethodDescriptor).Input().FullName())
	if err != nil {
		return nil, status.Errorf(codes.Internal, "fakecri: %s: %v", c.method, err)
	}
	req := t.New().Interface()
	if err := c.stream.RecvMsg(req); err != nil {
		return nil, err
	}
	c.req = req
	return req, nil
}

func (c *call) reply(m any) error {
	m, err := c.edit(m)
	if err != nil {
		return err
	}
	c.replied = true
	if c.stream != nil {
		return c.stream.SendMsg(m)
	}
	c.answer = m
	return nil
}

func (c *call) edit(m any) (any, error) {
	for _, f := range c.edits {
		var err error
		if m, err = f(m); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// grow returns m with its first list repeated up to total encoded bytes. It works on copies: m may be shared.
func grow(m any, total int) (any, error) {
	msg := shallow(m.(proto.Message).ProtoReflect())
	fd := firstList(msg)
	if fd == nil {
		return nil, status.Errorf(codes.Internal, "fakecri: Grow: %s has no list with an entry to repeat", msg.Descriptor().FullName())
	}
	own, list := msg.Get(fd).List(), msg.NewField(fd).List()
	costs := make([]int, own.Len()) // a copy's size is its original's
	for i := range costs {
		list.Append(own.Get(i))
		n := proto.Size(own.Get(i).Message().Interface())
		costs[i] = protowire.SizeTag(fd.Number()) + protowire.SizeBytes(n)
	}
	size := proto.Size(msg.Interface())
	for i := 0; ; i++ {
		if size += costs[i%own.Len()]; size > total {
			msg.Set(fd, protoreflect.ValueOfList(list))
			return msg.Interface(), nil
		}
		list.Append(protoreflect.ValueOfMessage(renewed(own.Get(i%own.Len()).Message(), i)))
	}
}

// firstList returns the field of the first list of messages that has an entry.
func firstList(m protoreflect.Message) protoreflect.FieldDescriptor {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if fd := fields.Get(i); fd.IsList() && fd.Message() != nil && m.Has(fd) {
			return fd
		}
	}
	return nil
}

// shallow returns a copy of m that shares its parts.
func shallow(m protoreflect.Message) protoreflect.Message {
	out := m.New()
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		out.Set(fd, v)
		return true
	})
	return out
}

// renewed returns a copy of an entry, with an id of its own of the same length where it has an id.
func renewed(m protoreflect.Message, i int) protoreflect.Message {
	out := shallow(m)
	if fd := m.Descriptor().Fields().ByName("id"); fd != nil && fd.Kind() == protoreflect.StringKind {
		old := m.Get(fd).String()
		if tail := fmt.Sprintf("%08x", i); len(old) > len(tail) {
			out.Set(fd, protoreflect.ValueOfString(old[:len(old)-len(tail)]+tail))
		}
	}
	return out
}

// BigMetadata returns metadata of n bytes of values, in characters that HPACK's Huffman code makes no shorter.
func BigMetadata(n int) metadata.MD {
	const each, alphabet = 1024, "~{}<>^#$@|"
	rnd := rand.New(rand.NewPCG(1, 2))
	md := metadata.MD{}
	for i := 0; n > 0; i++ {
		v := make([]byte, min(n, each))
		for j := range v {
			v[j] = alphabet[rnd.IntN(len(alphabet))]
		}
		md.Set(fmt.Sprintf("x-fakecri-%03d", i), string(v))
		n -= len(v)
	}
	return md
}
