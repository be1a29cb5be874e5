package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
)

// everyCall makes every call of every API through a grpc-tap with these
// arguments: once answered, once failed. It returns what left that process.
func everyCall(t *testing.T, h *hutch, args []string) map[string][]byte {
	dir, err := os.MkdirTemp("", "every")
	must(t, err)
	defer os.RemoveAll(dir)
	up, path := filepath.Join(dir, "up"), filepath.Join(dir, "tap")
	answers := &answers{}
	serveUnix(t, up, grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(answers.serve)))
	collector := &hearing{}
	address := serveCollector(t, collector)

	var stdout bytes.Buffer
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	must(t, err)
	defer stderr.Close()
	cmd := exec.Command(filepath.Join(binDir, "grpc-tap"), append([]string{"proxy", "--listen", path, "--upstream", up,
		"--otlp-endpoint", address, "--otlp-insecure", "--metrics-listen", "127.0.0.1:0"}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, stderr
	must(t, cmd.Start())
	must(t, await(path))

	list := readVerdicts(t)
	secretWord := func() string { return h.word(bird{metadata: true, field: "metadata"}) }
	client, err := grpc.NewClient("passthrough:///unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return net.Dial("unix", path) }),
		grpc.WithUserAgent(secretWord()), grpc.WithAuthority(secretWord()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
	must(t, err)
	calls := 0
	for _, m := range everyMethod(t) {
		for _, fail := range []bool{false, true} {
			make := func(d protoreflect.MessageDescriptor) []byte {
				wire, err := proto.Marshal(h.fill(m.api, list, d, 6))
				must(t, err)
				return wire
			}
			next := &answer{response: make(m.Output()), stream: m.IsStreamingServer(), header: secretMetadata(secretWord)}
			if fail {
				next.err = canaryFailure(t, h, list)
			}
			answers.next.Store(next)
			ctx := metadata.NewOutgoingContext(t.Context(), secretMetadata(secretWord))
			callOnce(ctx, client, "/"+string(m.Parent().FullName())+"/"+string(m.Name()), make(m.Input()), m.IsStreamingClient())
			calls++
		}
	}
	// A service that nobody knows, and connections that are not gRPC.
	answers.next.Store(&answer{response: []byte("\x0a\x0c" + secretWord())})
	callOnce(t.Context(), client, "/acme.v1.Vault/Open", []byte("\x0a\x0c"+secretWord()), false)
	must(t, client.Close())
	for _, hello := range []string{"GET /" + secretWord() + " HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00" + secretWord() + secretWord()} {
		c, err := net.Dial("unix", path)
		must(t, err)
		_, _ = c.Write([]byte(hello))
		time.Sleep(50 * time.Millisecond) // for the tap to have seen it, which is no condition of the test
		must(t, c.Close())
	}
	metrics := everyMetric(t, stderr.Name(), calls+1)
	must(t, cmd.Process.Signal(os.Interrupt))
	must(t, cmd.Wait())
	said, err := os.ReadFile(stderr.Name())
	must(t, err)
	if n := bytes.Count(stdout.Bytes(), []byte("NodePublishVolume")); n < 2 || calls < 2*200 {
		t.Errorf("%d calls were made, and of NodePublishVolume %d are told: %s", calls, n, said)
	}
	if collector.len() < 1<<16 {
		t.Errorf("the collector got %d bytes", collector.len())
	}
	return map[string][]byte{"stdout": stdout.Bytes(), "stderr": said, "spans": collector.bytes(), "metrics": metrics}
}

// method is one of an API's.
type method struct {
	api string
	protoreflect.MethodDescriptor
}

// everyMethod reads the methods off the descriptors that the binary has.
func everyMethod(t *testing.T) (all []method) {
	files, err := filepath.Glob("../../internal/codec/schema/descriptors/*.binpb.gz")
	must(t, err)
	for _, name := range files {
		f, err := os.Open(name)
		must(t, err)
		z, err := gzip.NewReader(f)
		must(t, err)
		b, err := io.ReadAll(z)
		must(t, err)
		_ = f.Close()
		set := &descriptorpb.FileDescriptorSet{}
		must(t, proto.Unmarshal(b, set))
		registry, err := protodesc.NewFiles(set)
		must(t, err)
		registry.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
			for i := range fd.Services().Len() {
				for methods, j := fd.Services().Get(i).Methods(), 0; j < methods.Len(); j++ {
					all = append(all, method{filepath.Base(name[:len(name)-len(".binpb.gz")]), methods.Get(j)})
				}
			}
			return true
		})
	}
	return all
}

// secretMetadata is metadata of every kind, with canaries.
func secretMetadata(word func() string) metadata.MD {
	return metadata.Pairs("authorization", "Bearer "+word(), "cookie", word(), "x-api-key", word(), "containerd-namespace", word(),
		"baggage", "k="+word(), "x-secret-bin", word(), "grpc-trace-bin", word(), "x-vault-token", word())
}

// canaryFailure is an error whose message and details have credentials in every form.
func canaryFailure(t *testing.T, h *hutch, list map[string]listedAs) error {
	asSecret := func() string { return h.text(bird{metadata: true, credential: true, field: "status"}) }
	text := asSecret()
	h.birds[len(h.birds)-13] = bird{api: "errordetails", field: "google.rpc.ErrorInfo.reason"} // the one in the open is the reason
	s := &spb.Status{Code: 9, Message: text}
	for _, name := range []protoreflect.FullName{"google.rpc.ErrorInfo", "google.rpc.DebugInfo", "google.rpc.QuotaFailure", "google.rpc.PreconditionFailure",
		"google.rpc.BadRequest", "google.rpc.RequestInfo", "google.rpc.ResourceInfo", "google.rpc.Help", "google.rpc.LocalizedMessage"} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		must(t, err)
		a, err := anypb.New(h.fill("errordetails", list, d.(protoreflect.MessageDescriptor), 6))
		must(t, err)
		s.Details = append(s.Details, a)
	}
	foreign, err := anypb.New(&errdetails.RetryInfo{})
	must(t, err)
	foreign.TypeUrl, foreign.Value = "type.example.com/acme.Secret", []byte(h.word(bird{metadata: true, field: "a detail that nobody knows"}))
	s.Details = append(s.Details, foreign)
	return status.ErrorProto(s)
}

func callOnce(ctx context.Context, client *grpc.ClientConn, path string, request []byte, stream bool) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s, err := client.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, path)
	if err != nil {
		return
	}
	_ = s.SendMsg(request)
	if stream {
		_ = s.SendMsg(request)
	}
	_ = s.CloseSend()
	for err == nil {
		var b []byte
		err = s.RecvMsg(&b)
	}
}

// answer is how the server answers the next call.
type answer struct {
	response []byte
	stream   bool
	header   metadata.MD
	err      error
}

// answers is a server of any method. The tap asks it too.
type answers struct{ next atomic.Pointer[answer] }

func (a *answers) serve(_ any, s grpc.ServerStream) error {
	one := a.next.Load()
	if one == nil {
		one = &answer{}
	}
	for {
		var b []byte
		if err := s.RecvMsg(&b); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	_ = s.SetHeader(one.header)
	s.SetTrailer(one.header)
	if one.err != nil && !one.stream {
		return one.err
	}
	_ = s.SendMsg(one.response)
	if one.stream {
		_ = s.SendMsg(one.response)
	}
	return one.err
}

// raw is a codec of bytes.
type raw struct{}

func (raw) Name() string { return "proto" }
func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func serveUnix(t *testing.T, path string, s *grpc.Server) {
	lis, err := net.Listen("unix", path)
	must(t, err)
	go func() { _ = s.Serve(lis) }()
	t.Cleanup(s.Stop)
}

// hearing is a collector that keeps what it gets.
type hearing struct {
	coltracepb.UnimplementedTraceServiceServer
	mu  sync.Mutex
	got []byte
}

func (h *hearing) Export(_ context.Context, r *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	b, err := proto.Marshal(r)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = append(h.got, b...)
	return &coltracepb.ExportTraceServiceResponse{}, err
}

func (h *hearing) bytes() []byte { h.mu.Lock(); defer h.mu.Unlock(); return slices.Clone(h.got) }
func (h *hearing) len() int      { return len(h.bytes()) }

func serveCollector(t *testing.T, h *hearing) (address string) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	coltracepb.RegisterTraceServiceServer(s, h)
	go func() { _ = s.Serve(lis) }()
	t.Cleanup(s.Stop)
	return lis.Addr().String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
