package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// The ordinary beginnings and ends, and the things around grpc-tap that may be
// absent.

// TestFakesStopped ends grpc-tap with a call in flight: it goes at once and
// says what stays; the call ends well, and the relay with its client.
func TestFakesStopped(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			n := newFakeNode(t)
			tap := front(t, n.cri)
			if !tap.Tells {
				return
			}
			k := n.kubelet(tap.Listen, n.csi)
			h := hold(n, k)
			if err := unix.Kill(tap.PID(), sig); err != nil {
				t.Fatal(err)
			}
			if code := tap.exitCode(); code != 0 {
				t.Errorf("exit code %d, not 0", code)
			}
			if !absent(tap.Listen) {
				t.Error("its socket is still there")
			}
			said := tap.Said()
			for _, want := range []string{
				fmt.Sprintf("%s is taken away; pid %d goes on relaying 1 connection", tap.Listen, tap.relay), ", 1 still running",
			} {
				if !strings.Contains(said, want) {
					t.Errorf("does not say %q:\n%s", want, said)
				}
			}
			if !tap.relays() {
				t.Error("the relay went before its client")
			}
			if err := h.finish(); err != nil {
				t.Errorf("the call that was in flight: %v", err)
			}
			if _, err := k.Runtime.Version(t.Context(), &cri.VersionRequest{}); err != nil {
				t.Errorf("another call on the connection that stays: %v", err)
			}
			k.Close()
			tap.relayEnds()
		})
	}
}

// TestFakesUpstreamLater starts grpc-tap before its upstream, and takes that
// away again: clients fail at once, as without us, and it is said once each
// time; when the upstream is there, calls pass.
func TestFakesUpstreamLater(t *testing.T) {
	n := newFakeNode(t)
	n.Stop()
	tap := front(t, n.cri)
	k := n.kubelet(tap.Listen, n.csi)
	// It fails as grpc-go has an answer, and not when this passes.
	refused := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := k.Runtime.Version(ctx, &cri.VersionRequest{}); status.Code(err) != codes.Unavailable || ctx.Err() != nil {
			t.Errorf("without an upstream: %v", err)
		}
	}
	answered := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := k.Runtime.Status(ctx, &cri.StatusRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Errorf("with an upstream: %v", err)
		}
	}
	says := func(what string, times int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%q is said %d times", what, times), func() bool { return strings.Count(tap.Said(), what) >= times })
		if got := strings.Count(tap.Said(), what); got != times {
			t.Errorf("%q is said %d times, not %d:\n%s", what, got, times, tap.Said())
		}
	}
	refused()
	refused()
	runtime := fakecri.NewRuntime()
	if err := runtime.Start(n.cri); err != nil {
		t.Fatal(err)
	}
	answered()
	if tap.Tells {
		tap.Wait("Status", isMethod("Status"))
		says("the upstream does not answer", 1)
		says("the upstream answers", 1)
	}
	runtime.Stop()
	// The client may find out by a call, and then be refused by the next.
	refused()
	refused()
	if tap.Tells {
		says("the upstream does not answer", 2)
	}
	runtime = fakecri.NewRuntime()
	if err := runtime.Start(n.cri); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(runtime.Stop)
	answered()
	k.Close()
	if tap.Tells {
		says("the upstream answers", 2)
		tap.Stop()
		says("the upstream does not answer", 2)
		says("closed for want of an upstream", 1)
	}
}

// TestFakesCollectorDown: nobody listens at the endpoint. Calls go on; it is
// said once, and the goodbye counts every span that was dropped.
func TestFakesCollectorDown(t *testing.T) {
	n := newFakeNode(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := free.Addr().String()
	free.Close()
	tap := front(t, n.cri, "--otlp-endpoint", endpoint, "--otlp-insecure")
	if !tap.Tells {
		return
	}
	counts := &oracle{}
	k := n.kubelet(tap.Listen, n.csi, counts.option())
	for range 20 {
		if err := k.Poll(t.Context()); err != nil {
			t.Error(err)
		}
	}
	const said = "cannot export spans"
	eventually(t, "it says that the collector is down", func() bool { return strings.Contains(tap.Said(), said) })
	if err := k.Poll(t.Context()); err != nil {
		t.Error(err)
	}
	counts.open.Wait()
	k.Close()
	tap.Stop() // holds that it ends well, and in time
	counts.compare(t, tap.Records())
	if strings.Count(tap.Said(), said) != 1 || !strings.Contains(tap.Said(), endpoint) {
		t.Errorf("does not say once %q of %s:\n%s", said, endpoint, tap.Said())
	}
	want := fmt.Sprintf("0 spans exported, %d dropped (export_failed)", len(counts.calls))
	if !strings.Contains(tap.Said(), want) {
		t.Errorf("the goodbye does not say %q:\n%s", want, tap.Said())
	}
}
