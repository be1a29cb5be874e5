package e2e

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// client is a CRI client as the kubelet's is: insecure, one connection,
// messages of 16 MiB. It keeps what came back of each call.
type client struct {
	cri.RuntimeServiceClient
	images cri.ImageServiceClient
	close  func() error
	t      testing.TB
	steps  []step
}

// step is a call and what came back, without what differs from run to run:
// two clients that did the same have equal steps.
type step struct {
	Method  string
	Code    string // grpc-go's name: "OK", "NotFound"
	Message string // with ids and times taken out
	Shape   string // the fields that the response had
	Note    string // what of the values matters

	sent, received int // bytes of the messages; they do differ from run to run
}

func (s step) String() string {
	return fmt.Sprintf("%s %s %q %s %s", s.Method, s.Code, s.Message, s.Note, s.Shape)
}

func newClient(t testing.TB, socket string) *client {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{RuntimeServiceClient: cri.NewRuntimeServiceClient(conn), images: cri.NewImageServiceClient(conn), close: conn.Close, t: t}
}

// note adds to the last step what of its response matters.
func (c *client) note(format string, args ...any) {
	c.steps[len(c.steps)-1].Note = fmt.Sprintf(format, args...)
}

// do makes a unary call that is to succeed.
func do[Req, Res proto.Message](c *client, method func(context.Context, Req, ...grpc.CallOption) (Res, error), req Req) Res {
	c.t.Helper()
	res, err := try(c, method, req)
	if err != nil {
		c.t.Fatalf("%s: %v", c.steps[len(c.steps)-1].Method, err)
	}
	return res
}

// try makes a unary call, with a deadline as the kubelet's have one.
func try[Req, Res proto.Message](c *client, method func(context.Context, Req, ...grpc.CallOption) (Res, error), req Req) (Res, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	res, err := method(ctx, req)
	c.keep(strings.TrimSuffix(string(req.ProtoReflect().Descriptor().Name()), "Request"), res, err)
	last := &c.steps[len(c.steps)-1]
	last.sent, last.received = proto.Size(req), proto.Size(res)
	return res, err
}

func (c *client) keep(method string, res proto.Message, err error) {
	s := step{Method: method, Code: status.Code(err).String()}
	if err == nil {
		s.Shape = shape(res)
	} else {
		s.Message = varying.ReplaceAllString(status.Convert(err).Message(), "ID")
	}
	c.steps = append(c.steps, s)
}

var varying = regexp.MustCompile(`[0-9a-f]{64}|/tmp/[^ "]*`)

// shape names the fields that are set in a message, at any depth.
func shape(m proto.Message) string {
	paths := map[string]bool{}
	var walk func(prefix string, m protoreflect.Message)
	walk = func(prefix string, m protoreflect.Message) {
		m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			path := prefix + string(fd.Name())
			paths[path] = true
			switch {
			case fd.IsMap() || fd.Message() == nil:
			case fd.IsList():
				for i := range v.List().Len() {
					walk(path+".", v.List().Get(i).Message())
				}
			default:
				walk(path+".", v.Message())
			}
			return true
		})
	}
	walk("", m.ProtoReflect())
	return strings.Join(slices.Sorted(maps.Keys(paths)), " ")
}
