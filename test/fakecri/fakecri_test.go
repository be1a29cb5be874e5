package fakecri_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// These tests are the package's manual: each shows one use.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const startContainer = cri.RuntimeService_StartContainer_FullMethodName

// start brings up a whole cast on sockets of its own. t.Cleanup ends it: the kubelet first, else the servers wait for it.
func start(t *testing.T, opts ...fakecri.Option) (*fakecri.Runtime, *fakecri.Driver, *fakecri.Kubelet) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fakecri") // t.TempDir's paths can be longer than a socket's may be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	criPath, csiPath := filepath.Join(dir, "cri.sock"), filepath.Join(dir, "csi.sock")
	rt, d := fakecri.NewRuntime(opts...), fakecri.NewDriver(opts...)
	if err := errors.Join(rt.Start(criPath), d.Start(csiPath)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rt.Stop)
	t.Cleanup(d.Stop)
	opts = append(opts, fakecri.WithCSI(d.Name, csiPath), fakecri.WithBackoff(time.Millisecond))
	k, err := fakecri.NewKubelet(criPath, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return rt, d, k
}

// Every method of both APIs answers, none with UNIMPLEMENTED, and each is called exactly once.
func TestCallAll(t *testing.T) {
	_, d, k := start(t)
	for _, api := range []struct {
		name    string
		n       int
		methods []string
		results []fakecri.Result
	}{
		{"CRI", 43, fakecri.CRIMethods(), k.CallAllCRI(t.Context())},
		{"CSI", 36, fakecri.CSIMethods(), k.CallAllCSI(t.Context(), d.Name)},
	} {
		if err := fakecri.Errors(api.results); err != nil {
			t.Errorf("%s: %v", api.name, err)
		}
		var called []string
		for _, r := range api.results {
			called = append(called, r.Method)
		}
		slices.Sort(called)
		slices.Sort(api.methods)
		if len(api.methods) != api.n || !slices.Equal(called, api.methods) {
			t.Errorf("%s: called %d methods\n%q\nwant %d\n%q", api.name, len(called), called, api.n, api.methods)
		}
	}
}

// A pod's life leaves nothing behind, and the calls come in the kubelet's order.
func TestPod(t *testing.T) {
	seen := &calls{}
	rt, _, k := start(t, fakecri.WithDialOptions(grpc.WithStatsHandler(seen)))
	p, err := k.StartPod(t.Context(), fakecri.Pod{
		Namespace: "prod", Name: "web-0",
		Volumes: []fakecri.Volume{{Handle: "vol-1", PV: "pvc-1", PVC: "data", FSType: "ext4"}, {Handle: "csi-2", PV: "tmp", Ephemeral: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.SandboxID) != 64 || len(p.ContainerIDs) != 1 || p.UID == "" {
		t.Errorf("started %+v", p)
	}
	st, err := k.Runtime.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: p.ContainerIDs[0]})
	if err != nil || st.Status.State != cri.ContainerState_CONTAINER_RUNNING {
		t.Errorf("ContainerStatus: %v, %v", st, err)
	}
	if err := errors.Join(k.Poll(t.Context()), k.StopPod(t.Context(), p)); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Runtime.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: p.SandboxID}); status.Code(err) != codes.NotFound {
		t.Errorf("removed sandbox: %v, want NotFound", err)
	}
	rt.GracefulStop()
	want := `NodeGetCapabilities NodeStageVolume NodeGetCapabilities NodePublishVolume NodeGetCapabilities NodePublishVolume ` +
		`RunPodSandbox PodSandboxStatus ImageStatus PullImage CreateContainer StartContainer ContainerStatus ` +
		`Version Status ListPodSandbox ListContainers ImageFsInfo ` +
		`StopContainer StopPodSandbox NodeUnpublishVolume NodeUnstageVolume NodeUnpublishVolume RemoveContainer RemovePodSandbox PodSandboxStatus`
	if got := strings.Join(seen.names, " "); got != want {
		t.Errorf("calls\n%s\nwant\n%s", got, want)
	}
}

// A script's failures are met by the kubelet's retry: here a container that starts at the third try.
func TestFailTwice(t *testing.T) {
	rt, _, k := start(t)
	rt.On(startContainer, fakecri.Fail(codes.Internal, "failed to create shim task: OCI runtime create failed").Times(2))
	p, err := k.StartPod(t.Context(), fakecri.Pod{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	list, err := k.Runtime.ListContainers(t.Context(), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{PodSandboxId: p.SandboxID}})
	if err != nil || len(list.Containers) != 3 || list.Containers[2].Metadata.Attempt != 2 {
		t.Errorf("containers %v, %v; want the third attempt to run", list, err)
	}
}

func TestStatusDetailsAndTrailers(t *testing.T) {
	rt, _, k := start(t)
	message := strings.Repeat("größer als %d\n", 600)
	rt.On(startContainer,
		fakecri.Header(metadata.Pairs("x-early", "1")),
		fakecri.Trailer(fakecri.BigMetadata(12<<10)),
		fakecri.Fail(codes.ResourceExhausted, message, &errdetails.ErrorInfo{Reason: "QUOTA", Domain: "example.com"}))
	var header, trailer metadata.MD
	_, err := k.Runtime.StartContainer(t.Context(), &cri.StartContainerRequest{}, grpc.Header(&header), grpc.Trailer(&trailer))
	st := status.Convert(err)
	if st.Code() != codes.ResourceExhausted || st.Message() != message {
		t.Errorf("status %v, %d bytes", st.Code(), len(st.Message()))
	}
	if info, ok := st.Details()[0].(*errdetails.ErrorInfo); !ok || info.Reason != "QUOTA" {
		t.Errorf("details %v", st.Details())
	}
	size := 0
	for key, v := range trailer {
		if strings.HasPrefix(key, "x-fakecri-") {
			size += len(v[0])
		}
	}
	if size != 12<<10 || header.Get("x-early") == nil {
		t.Errorf("trailers of %d bytes, headers %v", size, header)
	}
}

// Hang ends with the caller's deadline, and holds up no stop of the server.
func TestHang(t *testing.T) {
	rt, _, k := start(t)
	rt.On("*", fakecri.Hang())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := k.Runtime.Version(ctx, &cri.VersionRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("Version: %v, want DeadlineExceeded", err)
	}
	rt.On("*") // plausible again
	rt.On(startContainer, fakecri.Delay(30*time.Millisecond))
	from := time.Now()
	if _, err := k.Runtime.StartContainer(t.Context(), &cri.StartContainerRequest{}); status.Code(err) != codes.NotFound || time.Since(from) < 30*time.Millisecond {
		t.Errorf("StartContainer: %v after %v", err, time.Since(from))
	}
}

func TestBigLists(t *testing.T) {
	rt, _, k := start(t)
	rt.AddPods(110)
	sandboxes, err := k.Runtime.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{})
	if size := proto.Size(sandboxes); err != nil || size < 150_000 || size > 180_000 {
		t.Errorf("110 sandboxes: %d bytes, %v", size, err)
	}
	containers, err := k.Runtime.ListContainers(t.Context(), &cri.ListContainersRequest{})
	if size := proto.Size(containers); err != nil || size < 150_000 || size > 180_000 {
		t.Errorf("110 containers: %d bytes, %v", size, err)
	}

	// As large as the kubelet will receive, and larger.
	const limit = 16 << 20
	rt.On(cri.RuntimeService_ListContainers_FullMethodName, fakecri.Grow(limit))
	containers, err = k.Runtime.ListContainers(t.Context(), &cri.ListContainersRequest{})
	if size := proto.Size(containers); err != nil || size > limit || size < limit-2000 {
		t.Errorf("grown list: %d bytes, %v", size, err)
	}
	rt.On(cri.RuntimeService_ListContainers_FullMethodName, fakecri.Reply(func(any) (any, error) {
		return &cri.ListContainersResponse{Containers: []*cri.Container{{Id: strings.Repeat("x", limit)}}}, nil
	}))
	if _, err = k.Runtime.ListContainers(t.Context(), &cri.ListContainersRequest{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("list above the limit: %v, want ResourceExhausted", err)
	}

	// The streaming lists give the same in chunks.
	stream, err := k.Runtime.StreamContainers(t.Context(), &cri.StreamContainersRequest{})
	n, messages := 0, 0
	for err == nil {
		var m *cri.StreamContainersResponse
		m, err = stream.Recv()
		if n += len(m.GetContainers()); err == nil {
			messages++
		}
	}
	if n != 110 || messages != 3 || err != io.EOF {
		t.Errorf("%d containers in %d messages, %v", n, messages, err)
	}
}

// The event stream stays open and tells of each change; its headers say that it watches.
func TestEvents(t *testing.T) {
	_, _, k := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := k.Runtime.GetContainerEvents(ctx, &cri.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := events.Header(); err != nil {
		t.Fatal(err)
	}
	p, err := k.StartPod(t.Context(), fakecri.Pod{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.StopPod(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 8 {
		e, err := events.Recv()
		if err != nil {
			t.Fatal(err)
		}
		who := map[string]string{p.SandboxID: "sandbox", p.ContainerIDs[0]: "container"}[e.ContainerId]
		what := strings.ToLower(strings.Split(e.ContainerEventType.String(), "_")[1])
		got = append(got, who+" "+what)
		if e.PodSandboxStatus.GetMetadata().GetName() != "web" {
			t.Errorf("event without its pod: %v", e)
		}
	}
	want := "[sandbox created sandbox started container created container started " +
		"container stopped sandbox stopped container deleted sandbox deleted]"
	if fmt.Sprint(got) != want {
		t.Errorf("events %v\nwant %s", got, want)
	}
	cancel()
	if _, err := events.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("after cancel: %v", err)
	}
}

// A scripted stream, and a reply that depends on the request: of the right type whatever the method.
func TestStreamAndReply(t *testing.T) {
	rt, _, k := start(t)
	rt.On(cri.RuntimeService_GetContainerEvents_FullMethodName,
		fakecri.Stream(3, time.Millisecond, func(i int) any { return &cri.ContainerEventResponse{ContainerId: fmt.Sprint(i)} }),
		fakecri.Fail(codes.Unavailable, "gone"))
	events, err := k.Runtime.GetContainerEvents(t.Context(), &cri.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if e, err := events.Recv(); err != nil || e.ContainerId != fmt.Sprint(i) {
			t.Errorf("message %d: %v, %v", i, e, err)
		}
	}
	if _, err := events.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("end: %v, want Unavailable", err)
	}

	rt.On(cri.RuntimeService_StreamContainers_FullMethodName, fakecri.Reply(func(req any) (any, error) {
		id := req.(*cri.StreamContainersRequest).GetFilter().GetId()
		return &cri.StreamContainersResponse{Containers: []*cri.Container{{Id: id}}}, nil
	}))
	list, err := k.Runtime.StreamContainers(t.Context(), &cri.StreamContainersRequest{Filter: &cri.ContainerFilter{Id: "c1"}})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := list.Recv(); err != nil || m.Containers[0].Id != "c1" {
		t.Errorf("replied %v, %v", m, err)
	}
	if _, err := list.Recv(); err != io.EOF {
		t.Errorf("end: %v, want EOF", err)
	}

	rt.On(startContainer, fakecri.Stream(1, 0, nil))
	if _, err := k.Runtime.StartContainer(t.Context(), &cri.StartContainerRequest{}); status.Code(err) != codes.Internal {
		t.Errorf("Stream on a unary method: %v, want Internal", err)
	}
}

// A service without a known schema, unary and both ways, obeys scripts like any other.
func TestUnknownService(t *testing.T) {
	rt, _, k := start(t)
	out, err := fakecri.Say(t.Context(), k.Conn(), []byte("hello"))
	if err != nil || string(out) != "hello" {
		t.Errorf("Say: %q, %v", out, err)
	}
	in := [][]byte{[]byte("a"), {}, bytes.Repeat([]byte("b"), 100_000)}
	back, err := fakecri.Chat(t.Context(), k.Conn(), in)
	if err != nil || len(back) != 3 || !bytes.Equal(back[2], in[2]) {
		t.Errorf("Chat: %d messages, %v", len(back), err)
	}
	rt.On(fakecri.EchoChat, fakecri.Fail(codes.PermissionDenied, "no"))
	if _, err := fakecri.Chat(t.Context(), k.Conn(), in); status.Code(err) != codes.PermissionDenied {
		t.Errorf("scripted Chat: %v", err)
	}
}

// Natively traced, kubelet and runtime share a trace; by default there is no traceparent on the wire, and never for CSI.
func TestTracing(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	tp := trace.NewTracerProvider(trace.WithSyncer(spans))
	seen := &calls{}
	_, d, k := start(t, fakecri.WithTracerProvider(tp), fakecri.WithServerOptions(grpc.StatsHandler(seen)))
	if _, err := k.Runtime.Version(t.Context(), &cri.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	conn, err := k.DialCSI(d.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fakecri.Say(t.Context(), conn, nil); err != nil {
		t.Fatal(err)
	}
	if got := seen.traceparents(); len(got) != 2 || got[0] == "" || got[1] != "" {
		t.Errorf("traceparents %q, want one for CRI and none for CSI", got)
	}

	// otelgrpc ends a server's span after its client has the answer.
	for deadline := time.Now().Add(time.Second); len(spans.GetSpans()) < 3 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	got := map[string]int{}
	for _, s := range spans.GetSpans() {
		got[s.SpanContext.TraceID().String()]++
	}
	if len(got) != 2 {
		t.Errorf("traces %v, want one of the kubelet and the runtime, one of the driver alone", got)
	}
}

// A client that compresses is answered compressed.
func TestGzip(t *testing.T) {
	seen := &calls{}
	rt, _, k := start(t, fakecri.WithGzip(), fakecri.WithDialOptions(grpc.WithStatsHandler(seen)))
	rt.AddPods(20)
	if _, err := k.Runtime.ListContainers(t.Context(), &cri.ListContainersRequest{}); err != nil {
		t.Fatal(err)
	}
	if in := seen.payload(); in.CompressedLength == 0 || in.CompressedLength >= in.Length {
		t.Errorf("answer of %d bytes, compressed %d", in.Length, in.CompressedLength)
	}
}

// The same seed gives the same ids, another others.
func TestSeed(t *testing.T) {
	id := func(opts ...fakecri.Option) string {
		_, _, k := start(t, opts...)
		p, err := k.StartPod(t.Context(), fakecri.Pod{Name: "web"})
		if err != nil {
			t.Fatal(err)
		}
		return p.SandboxID
	}
	if a, b, c := id(), id(), id(fakecri.WithSeed(7)); a != b || a == c {
		t.Errorf("ids %s, %s, with another seed %s", a, b, c)
	}
}

// A graceful stop ends what would never end, and lets the rest finish.
func TestGracefulStop(t *testing.T) {
	rt, _, k := start(t)
	begun := fakecri.Header(nil) // tells us that the call has reached the server
	rt.On(cri.RuntimeService_GetContainerEvents_FullMethodName, begun)
	rt.On(cri.RuntimeService_StreamContainers_FullMethodName, begun, fakecri.Hang())
	rt.On(cri.RuntimeService_StreamPodSandboxes_FullMethodName, begun, fakecri.Delay(30*time.Millisecond))
	events, err1 := k.Runtime.GetContainerEvents(t.Context(), &cri.GetEventsRequest{})
	hangs, err2 := k.Runtime.StreamContainers(t.Context(), &cri.StreamContainersRequest{})
	slow, err3 := k.Runtime.StreamPodSandboxes(t.Context(), &cri.StreamPodSandboxesRequest{})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	for _, s := range []grpc.ClientStream{events, hangs, slow} {
		if _, err := s.Header(); err != nil {
			t.Fatal(err)
		}
	}
	rt.GracefulStop()
	if _, err := events.Recv(); err != io.EOF {
		t.Errorf("event stream: %v, want EOF", err)
	}
	if _, err := hangs.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("hanging call: %v, want Unavailable", err)
	}
	if _, err := slow.Recv(); err != io.EOF {
		t.Errorf("slow call: %v, want EOF", err)
	}
}

// The scene is the failure that grpc-tap exists to show.
func TestScene(t *testing.T) {
	seen := &calls{}
	rt, d, k := start(t, fakecri.WithDialOptions(grpc.WithStatsHandler(seen)))
	rt.ScriptScene()
	d.ScriptScene()
	polls, stop := context.WithCancel(t.Context())
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		k.PollUntil(polls, 20*time.Millisecond, func(l string) { t.Error(l) })
	}()
	var lines []string
	if err := k.PlayScene(t.Context(), d.Name, 0, func(l string) { lines = append(lines, l) }); err != nil {
		t.Fatal(err)
	}
	stop()
	<-polled
	want := []string{
		"the kubelet starts pod batch/report-0", "pod batch/report-0 runs",
		"the kubelet starts pod prod/web-0", "pod prod/web-0 runs", "the kubelet stops pod batch/report-0",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("said %q\nwant %q", lines, want)
	}
	if n := strings.Count(strings.Join(seen.names, " "), "NodePublishVolume"); n != 3 {
		t.Errorf("%d calls of NodePublishVolume, want two failures and a success", n)
	}
}

// A path with something else on it is not touched; one with a dead socket is taken over.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	rt := fakecri.NewRuntime()
	defer rt.Stop()
	if err := rt.Start(path); err == nil {
		t.Error("Start on a file did not fail")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}
