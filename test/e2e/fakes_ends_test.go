package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// Calls that end in another way than by the server's answer, and calls of
// services that nobody has the schema of.

// TestFakesOpenStream keeps a stream open while unary calls pass on the same
// connection: those are told at once, the stream when it ends.
func TestFakesOpenStream(t *testing.T) {
	n := newFakeNode(t)
	const messages = 3
	n.On(cri.RuntimeService_GetContainerEvents_FullMethodName, fakecri.Stream(messages, 0, func(int) any {
		return &cri.ContainerEventResponse{ContainerId: "c"}
	}), fakecri.Hang())
	tap := front(t, n.cri)
	counts := &oracle{}
	k := n.kubelet(tap.Listen, n.csi, counts.option())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := k.Runtime.GetContainerEvents(ctx, &cri.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for range messages {
		if _, err := events.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Runtime.Version(t.Context(), &cri.VersionRequest{}); err != nil {
		t.Error(err)
	}
	var version Record
	if tap.Tells {
		version = tap.Wait("Version", isMethod("Version"))
		if slices.ContainsFunc(tap.Records(), isMethod("GetContainerEvents")) {
			t.Error("the stream is told before it has ended")
		}
	}
	cancel()
	if _, err := events.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	if !tap.Tells {
		return
	}
	r := tap.Wait("the stream", isMethod("GetContainerEvents"))
	if r.Code != "CANCELLED" || r.ResponseMessages != messages || r.State != "done" {
		t.Errorf("not told as a stream of %d messages that was cancelled: %s", messages, r)
	}
	if r.Connection != version.Connection || r.Stream >= version.Stream || r.Start.After(version.Start) {
		t.Errorf("not the stream that was open on the connection of the other call:\n%s\n%s", r, version)
	}
	k.Close()
	tap.Stop()
	counts.compare(t, tap.Records())
}

// TestFakesDeadlineAndCancel: a call that is not answered ends by its deadline
// or its caller, and which of the two is told right.
func TestFakesDeadlineAndCancel(t *testing.T) {
	const timeout = time.Second
	n := newFakeNode(t)
	tap := front(t, n.cri)
	arrived, released := make(chan time.Time, 1), make(chan struct{})
	t.Cleanup(func() { close(released) })
	for _, method := range []string{cri.RuntimeService_StartContainer_FullMethodName, cri.RuntimeService_StopContainer_FullMethodName} {
		n.On(method, fakecri.Reply(func(any) (any, error) {
			arrived <- time.Now()
			<-released
			return nil, status.Error(codes.Aborted, "the test is over")
		}))
	}
	var late time.Duration // by how much the timed call reached the server after its clock began
	for _, path := range []string{n.cri, tap.Listen} {
		k := n.kubelet(path, n.csi)
		if _, err := k.Runtime.Version(t.Context(), &cri.VersionRequest{}); err != nil { // have the connection up
			t.Fatal(err)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		_, err := k.Runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: "c"})
		cancel()
		late = (<-arrived).Sub(began)
		// Its own clock or the server's reset: which one a client words is a race.
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%s: %v", path, err)
		}

		ctx, cancel = context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := k.Runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: "c"})
			ended <- err
		}()
		<-arrived
		cancel()
		err = <-ended
		if st := status.Convert(err); st.Code() != codes.Canceled || st.Message() != "context canceled" {
			t.Errorf("%s: %v", path, err)
		}
		if path == tap.Listen && tap.Tells {
			r := tap.Wait("StartContainer", isMethod("StartContainer"))
			// The wire says CANCEL of both, and how long the client meant to wait:
			// a call that was held up on its way seems to have given up early.
			if r.Code != "DEADLINE_EXCEEDED" && late < 40*time.Millisecond || r.State != "done" {
				t.Errorf("not told as a deadline that passed: %s", r)
			}
			if r := tap.Wait("StopContainer", isMethod("StopContainer")); r.Code != "CANCELLED" || r.State != "done" || r.RequestMessages != 1 {
				t.Errorf("not told as cancelled: %s", r)
			}
		}
		k.Close()
	}
}

// TestFakesUnknownService: what has no schema passes, and is told by its path,
// field numbers and sizes, with nothing of what it says.
func TestFakesUnknownService(t *testing.T) {
	n := newFakeNode(t)
	collector := NewCollector(t)
	tap := front(t, n.cri, "--otlp-endpoint", collector.Address, "--otlp-insecure")
	direct, through, counts := &ear{keep: exactly}, &ear{keep: exactly}, &oracle{}
	chat := [][]byte{[]byte("a"), {}, make([]byte, 100_000)}
	for _, c := range []struct {
		path string
		opts []fakecri.Option
	}{{n.cri, []fakecri.Option{direct.option()}}, {tap.Listen, []fakecri.Option{through.option(), counts.option()}}} {
		k := n.kubelet(c.path, n.csi, c.opts...)
		if out, err := fakecri.Say(t.Context(), k.Conn(), []byte("hello")); err != nil || string(out) != "hello" {
			t.Errorf("Say: %q, %v", out, err)
		}
		if out, err := fakecri.Chat(t.Context(), k.Conn(), chat); err != nil || len(out) != len(chat) {
			t.Errorf("Chat: %d messages, %v", len(out), err)
		}
		k.Close()
	}
	for i := range direct.calls {
		heardSame(t, *direct.calls[i], *through.calls[i])
	}
	tap.Stop()
	if !tap.Tells {
		return
	}
	records := tap.Records()
	counts.compare(t, records)
	for _, r := range records {
		want := map[string]string{"Say": `{"1":"‹5 bytes›"}`, "Chat": `[{"1":"‹1 byte›"},{},{"1":"‹100000 bytes›"}]`}[r.Method]
		if r.Service != "example.v1.Echo" || r.Code != "OK" || string(r.Request) != want || string(r.Response) != want {
			t.Errorf("not told by its path, field numbers and sizes alone: %s", r)
		}
	}
	checkSpans(t, records, collector, tap.Tap)
	if said := tap.Complained(); len(said) > 0 {
		t.Errorf("it did not read all of it: %q", said)
	}
}
