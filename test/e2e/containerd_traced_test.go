package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// A pod's life: its calls as kubelet and containerd tell them beside us, and as
// containerd alone does.
const (
	tracedByAll = `grpc-tap: pod start e2e/web started, 3 calls, 0 failed -> RunPodSandbox
grpc-tap: pod stop e2e/web stopped, 4 calls, 0 failed -> StopContainer, pod start e2e/web
kubelet: syncPod
  kubelet: RunPodSandbox
    containerd: RunPodSandbox
    grpc-tap: RunPodSandbox -> pod start e2e/web
  kubelet: CreateContainer
    containerd: CreateContainer
    grpc-tap: CreateContainer -> pod start e2e/web
  kubelet: StartContainer
    containerd: StartContainer
    grpc-tap: StartContainer -> pod start e2e/web
  kubelet: StopContainer
    containerd: StopContainer
    grpc-tap: StopContainer -> pod start e2e/web
  kubelet: RemoveContainer
    containerd: RemoveContainer
    grpc-tap: RemoveContainer -> pod start e2e/web
  kubelet: StopPodSandbox
    containerd: StopPodSandbox
    grpc-tap: StopPodSandbox -> pod start e2e/web
  kubelet: RemovePodSandbox
    containerd: RemovePodSandbox
    grpc-tap: RemovePodSandbox -> pod start e2e/web
`
	tracedByContainerd = `containerd: RunPodSandbox
containerd: CreateContainer
containerd: StartContainer
containerd: StopContainer
containerd: RemoveContainer
containerd: StopPodSandbox
containerd: RemovePodSandbox
grpc-tap: pod start e2e/web started, 3 calls, 0 failed
  grpc-tap: RunPodSandbox
  grpc-tap: CreateContainer
  grpc-tap: StartContainer
grpc-tap: pod stop e2e/web stopped, 4 calls, 0 failed -> pod start e2e/web
  grpc-tap: StopContainer -> pod start e2e/web
  grpc-tap: RemoveContainer -> pod start e2e/web
  grpc-tap: StopPodSandbox -> pod start e2e/web
  grpc-tap: RemovePodSandbox -> pod start e2e/web
`
)

// TestContainerdTraced holds where our spans are beside those of a containerd
// that traces itself, and of a kubelet that does too or does not: docs/spans.md,
// "Native traces".
func TestContainerdTraced(t *testing.T) {
	program := lab.Traces(t)
	for name, c := range map[string]struct {
		kubelet sdk.Sampler
		want    string
	}{
		"and the kubelet": {sdk.AlwaysSample(), tracedByAll},
		"alone":           {nil, tracedByContainerd},
	} {
		t.Run(name, func(t *testing.T) {
			f := tracedLife(t, program, c.kubelet)
			if f == nil {
				return // it was socat
			}
			if got := f.draw(orHolds); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
			checkContainerd(t, f)
		})
	}
}

// changesPod says whether a span is of a CRI call that starts or stops something.
func changesPod(s *tree) bool {
	return slices.Contains([]string{
		"RunPodSandbox", "CreateContainer", "StartContainer", "StopContainer", "RemoveContainer", "StopPodSandbox", "RemovePodSandbox",
	}, s.String())
}

// orHolds is changesPod, and what such calls are under: a pod's root, a round.
func orHolds(s *tree) bool {
	return changesPod(s) || s.from != "containerd" && s.is("rpc.method") == ""
}

// checkContainerd holds that containerd tells what it did below its span of a
// call, and calls the container what we call it.
func checkContainerd(t *testing.T, f forest) {
	t.Helper()
	theirs, ours := f.where("containerd", changesPod), f.where("grpc-tap", changesPod)
	if len(theirs) != len(ours) {
		t.Fatalf("%d calls by containerd, %d by us", len(theirs), len(ours))
	}
	for i, their := range theirs {
		if len(their.children) == 0 {
			t.Errorf("%s: containerd tells nothing below it", their)
		}
		if id := their.is("container.id"); id != ours[i].is("container.id") || strings.HasSuffix(their.String(), "Container") && id == "" {
			t.Errorf("%s: container.id is %q by containerd, and %q by us", their, id, ours[i].is("container.id"))
		}
	}
}

// tracedLife takes a pod through its life on a containerd that traces itself, by
// a kubelet that does so too if it has a sampler. All spans go to one collector.
func tracedLife(t *testing.T, containerd string, kubelet sdk.Sampler) forest {
	t.Helper()
	collector, l := NewCollector(t), lab.New(t)
	r := l.Containerd(lab.Options{Binary: containerd, Env: lab.TracingTo(collector.ServeIn(l, "127.0.0.1:0"))})
	t.Logf("containerd %s", r.Version)
	tap := Proxy(t, r.Socket, "--otlp-endpoint", collector.Address, "--otlp-insecure")
	c := tracedClient(t, tap.Listen, collector, kubelet)
	p, sandbox := newPod(r, "web")
	p.sandbox = do(c, c.RunPodSandbox, &cri.RunPodSandboxRequest{Config: sandbox}).PodSandboxId
	c.run(p, sandbox)
	c.remove(p)
	c.close()
	tap.Stop()
	if !tap.Tells {
		return nil
	}
	// It sends what it has before it ends.
	if err := r.Process.Stop(30 * time.Second); err != nil {
		t.Errorf("containerd, told to end by SIGTERM: %v", err)
	}
	return collector.Forest()
}

// tracedClient is a client whose calls are one round of the kubelet's sync loop,
// which ends when it is closed.
func tracedClient(t *testing.T, socket string, to *Collector, sampler sdk.Sampler) *client {
	t.Helper()
	var opts []fakecri.Option
	round := trace.SpanFromContext(t.Context()) // none
	if sampler != nil {
		tp := to.Tracer(t, "kubelet", sampler)
		_, round = tp.Tracer("kubelet").Start(t.Context(), "syncPod")
		opts = append(opts, fakecri.WithTracerProvider(tp), fakecri.WithDialOptions(grpc.WithChainUnaryInterceptor(under(round))))
	}
	k, err := fakecri.NewKubelet(socket, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return &client{RuntimeServiceClient: k.Runtime, images: k.Image, t: t, close: func() error {
		round.End()
		return k.Close()
	}}
}

// under makes calls under a span.
func under(parent trace.Span) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return invoke(trace.ContextWithSpan(ctx, parent), method, req, reply, cc, opts...)
	}
}
