package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// longMessage is as errors of runtimes are, only more so: over 9 KB, of lines
// in several scripts, with what must be escaped on one wire or another.
var longMessage = strings.Repeat("mount «größer» 失敗 😀: 100 % \"of\" \\ it\n\ttab, exit 32\r\n", 170)

// A serverShape is an answer that a relay could spoil, made by a script.
type serverShape struct {
	name   string
	method string
	script []fakecri.Step
	req    proto.Message
	res    func() proto.Message
	stream bool
	want   func(heard) bool // that the shape is what its name says
}

var serverShapes = []serverShape{
	{
		name: "a list of 16 MiB", method: cri.RuntimeService_ListContainers_FullMethodName,
		script: []fakecri.Step{fakecri.Grow(16 << 20)},
		req:    &cri.ListContainersRequest{}, res: func() proto.Message { return &cri.ListContainersResponse{} },
		want: func(h heard) bool { return h.Bytes > 16<<20-4096 && h.Bytes <= 16<<20 },
	}, {
		name: "a trailer of 12 KB", method: cri.RuntimeService_Version_FullMethodName,
		script: []fakecri.Step{fakecri.Header(metadata.Pairs("x-early", "1", "x-early", "2")), fakecri.Trailer(fakecri.BigMetadata(12 << 10))},
		req:    &cri.VersionRequest{}, res: func() proto.Message { return &cri.VersionResponse{} },
		want: func(h heard) bool { return mdBytes(h.Trailer) == 12<<10 && len(h.Header["x-early"]) == 2 },
	}, {
		name: "headers of 12 KB", method: cri.RuntimeService_Status_FullMethodName,
		script: []fakecri.Step{fakecri.Header(fakecri.BigMetadata(12 << 10))},
		req:    &cri.StatusRequest{}, res: func() proto.Message { return &cri.StatusResponse{} },
		want: func(h heard) bool { return mdBytes(h.Header) == 12<<10 },
	}, {
		name: "a message of 9 KB, trailers only", method: cri.RuntimeService_StartContainer_FullMethodName,
		script: []fakecri.Step{fakecri.Fail(codes.Internal, longMessage)},
		req:    &cri.StartContainerRequest{ContainerId: "c"}, res: func() proto.Message { return &cri.StartContainerResponse{} },
		want: func(h heard) bool { return len(h.Message) > 9<<10 && h.Message == longMessage },
	}, {
		name: "a message of 9 KB, with details and a trailer of 12 KB", method: cri.RuntimeService_StopContainer_FullMethodName,
		script: []fakecri.Step{
			fakecri.Header(nil), fakecri.Trailer(fakecri.BigMetadata(12 << 10)),
			fakecri.Fail(codes.ResourceExhausted, longMessage, &errdetails.ErrorInfo{Reason: "QUOTA", Domain: "example.com"}),
		},
		req: &cri.StopContainerRequest{ContainerId: "c"}, res: func() proto.Message { return &cri.StopContainerResponse{} },
		want: func(h heard) bool {
			return h.Message == longMessage && strings.Contains(h.Details, "QUOTA") && mdBytes(h.Trailer) >= 12<<10
		},
	}, {
		name: "a code that gRPC does not define", method: cri.RuntimeService_RemoveContainer_FullMethodName,
		script: []fakecri.Step{fakecri.Fail(42, "")},
		req:    &cri.RemoveContainerRequest{ContainerId: "c"}, res: func() proto.Message { return &cri.RemoveContainerResponse{} },
		want: func(h heard) bool { return h.Code == 42 },
	}, {
		name: "a stream of nothing", method: cri.RuntimeService_StreamPodSandboxes_FullMethodName,
		script: []fakecri.Step{fakecri.Stream(0, 0, nil)}, stream: true,
		req: &cri.StreamPodSandboxesRequest{}, res: func() proto.Message { return &cri.StreamPodSandboxesResponse{} },
		want: func(h heard) bool { return h.Code == codes.OK && len(h.Messages) == 0 },
	}, {
		name: "a stream of empty and of large messages that fails", method: cri.RuntimeService_StreamContainers_FullMethodName,
		script: []fakecri.Step{fakecri.Stream(20, 0, func(i int) any {
			return &cri.StreamContainersResponse{Containers: []*cri.Container{{Id: strings.Repeat("x", i%4*40_000)}}[:min(1, i%4)]}
		}), fakecri.Fail(codes.Unavailable, "the rest is gone")}, stream: true,
		req: &cri.StreamContainersRequest{}, res: func() proto.Message { return &cri.StreamContainersResponse{} },
		want: func(h heard) bool { return h.Code == codes.Unavailable && len(h.Messages) == 20 },
	},
}

func mdBytes(md metadata.MD) (n int) {
	for key, values := range md {
		if strings.HasPrefix(key, "x-fakecri-") {
			n += len(values[0])
		}
	}
	return n
}

// ask makes the shape's call and reads its answer to the end.
func (s *serverShape) ask(t *testing.T, k *fakecri.Kubelet) {
	if !s.stream {
		_ = k.Conn().Invoke(t.Context(), s.method, s.req, s.res())
		return
	}
	stream, err := k.Conn().NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, s.method)
	if err == nil {
		err = stream.SendMsg(s.req)
	}
	if err == nil {
		err = stream.CloseSend()
	}
	for err == nil {
		err = stream.RecvMsg(s.res())
	}
}

// TestFakesShapes has a server answer in ways that are rare and hard to relay:
// the client hears the same through grpc-tap, and the record tells it.
func TestFakesShapes(t *testing.T) {
	for _, how := range []struct {
		name string
		opts []fakecri.Option
	}{{"plain", nil}, {"gzip", []fakecri.Option{fakecri.WithGzip()}}} {
		t.Run(how.name, func(t *testing.T) {
			n := newFakeNode(t)
			n.AddPods(20)
			tap := front(t, n.cri)
			direct, through, counts := &ear{keep: exactly}, &ear{keep: exactly}, &oracle{}
			kd := n.kubelet(n.cri, n.csi, append(slices.Clone(how.opts), direct.option())...)
			kt := n.kubelet(tap.Listen, n.csi, append(slices.Clone(how.opts), through.option(), counts.option())...)
			for i := range serverShapes {
				s := &serverShapes[i]
				n.On(s.method, s.script...)
				s.ask(t, kd)
				s.ask(t, kt)
				h := through.last()
				heardSame(t, direct.last(), h)
				if !h.Ended || !s.want(h) {
					t.Errorf("that is not %s: %.500s", s.name, fmt.Sprintf("%+v", h))
				}
				if !tap.Tells {
					continue
				}
				r := tap.Wait(s.name, isMethod(s.method[strings.LastIndexByte(s.method, '/')+1:]))
				if r.Code != codeName(status.Error(h.Code, "")) || r.Message != h.Message || r.State != "done" {
					t.Errorf("the record of %s tells it otherwise: %.1000s", s.name, r)
				}
				if int(r.ResponseMessages) != len(h.Messages) || how.opts == nil && int(r.ResponseBytes) != h.Bytes {
					t.Errorf("%s: %d messages of %d bytes were heard: %.1000s", s.name, len(h.Messages), h.Bytes, r)
				}
			}
			counts.open.Wait()
			kt.Close()
			tap.Stop()
			if tap.Tells {
				counts.compare(t, tap.Records())
				if said := tap.Complained(); len(said) > 0 {
					t.Errorf("it did not read all of it: %q", said)
				}
			}
		})
	}
}

// TestFakesHeadersFirst holds that headers pass when they come, and not with
// the first message: here the server sends none until the client has them.
func TestFakesHeadersFirst(t *testing.T) {
	n := newFakeNode(t)
	tap := front(t, n.cri)
	have := make(chan struct{}, 1)
	n.On(cri.RuntimeService_StreamContainers_FullMethodName, fakecri.Header(metadata.Pairs("x-early", "1")), fakecri.Reply(func(any) (any, error) {
		<-have
		return &cri.StreamContainersResponse{}, nil
	}))
	for _, path := range []string{n.cri, tap.Listen} {
		k := n.kubelet(path, n.csi)
		stream, err := k.Runtime.StreamContainers(t.Context(), &cri.StreamContainersRequest{})
		if err != nil {
			t.Fatal(err)
		}
		type answer struct {
			md  metadata.MD
			err error
		}
		answered := make(chan answer, 1)
		go func() {
			md, err := stream.Header()
			answered <- answer{md, err}
		}()
		select {
		case a := <-answered:
			if a.err != nil || len(a.md["x-early"]) != 1 {
				t.Errorf("%s: headers %v, %v", path, a.md, a.err)
			}
		case <-time.After(eventuallyTime):
			t.Errorf("%s: no headers before the first message", path)
		}
		have <- struct{}{}
		if _, err := stream.Recv(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := stream.Recv(); err == nil {
			t.Errorf("%s: the stream does not end", path)
		}
		k.Close()
	}
	if tap.Tells {
		if r := tap.Wait("StreamContainers", isMethod("StreamContainers")); r.Code != "OK" || r.ResponseMessages != 1 {
			t.Errorf("the record tells it otherwise: %s", r)
		}
	}
}
