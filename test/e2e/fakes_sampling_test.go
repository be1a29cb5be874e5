package e2e

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// TestFakesSampling holds what --sampling-rate-per-million makes of a node's day in
// short: no error is lost, a pod's start and stop are whole, of polling there is
// the share by trace id, and what is said at the end adds up.
func TestFakesSampling(t *testing.T) {
	notSocat(t, "attaches to nothing")
	n := &tracedNode{Collector: NewCollector(t), fakeNode: newFakeNode(t)}
	n.tap = attachBoth(t, n.fakeNode, nil, "--otlp-endpoint", n.Address, "--otlp-insecure", "--sampling-rate-per-million", "100000")
	n.kubelet = n.fakeNode.kubelet(n.cri, n.csi)

	n.poll(50)
	n.live()
	n.On(cri.RuntimeService_Status_FullMethodName, fakecri.Fail(codes.Unavailable, "not now").Times(7))
	n.poll(50)
	n.On(cri.RuntimeService_ExecSync_FullMethodName, fakecri.Reply(func(any) (any, error) { return &cri.ExecSyncResponse{ExitCode: 1}, nil }))
	for range 30 {
		if _, err := n.kubelet.Runtime.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: "c"}); err != nil {
			t.Error(err)
		}
	}
	all := n.end()

	want := strings.Replace(podStart, "grpc-tap: PodSandboxStatus -> pod start shop/web\n", "", 1) + podStop
	if got := all.draw(func(s *tree) bool {
		return slices.ContainsFunc(podsOwn, func(part string) bool { return strings.Contains(s.String(), part) })
	}); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	n.checkSampled(t)
}

// podsOwn are parts of the names of all that is in a pod's trace.
var podsOwn = []string{"pod st", "publishVolume", "PublishVolume", "RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "PullImage",
	"CreateContainer", "StartContainer", "StopContainer", "RemoveContainer"}

// poll has the kubelet ask n times what it asks all day.
func (n *tracedNode) poll(times int) {
	n.round("poll", func(ctx context.Context) error {
		for range times {
			if err := n.kubelet.Poll(ctx); err != nil && !strings.Contains(err.Error(), "not now") {
				return err
			}
		}
		return nil
	})
}

var sampledSaid = regexp.MustCompile(`(\d+) calls on \d+ connections.*; (\d+) spans exported, (\d+) calls not sampled`)

// checkSampled holds each record against the rules, and their number against what
// was said at the end.
func (n *tracedNode) checkSampled(t *testing.T) {
	t.Helper()
	spans, seen := n.Spans(), map[string]bool{}
	var failed, exits, exitsKept, notSampled int
	for _, r := range n.tap.Records() {
		kept, first := spans[r.SpanID] != nil, !seen[r.Socket+r.Method]
		seen[r.Socket+r.Method] = true
		if !kept {
			notSampled++
		}
		switch polls := slices.Contains(polled, r.Method); {
		case r.Code != "OK":
			failed++
			if !kept {
				t.Errorf("an error is lost: %s", r)
			}
		case r.Method == "ExecSync":
			exits++
			if kept && r.DurationMS < 100 && !inShare(t, r.TraceID) {
				exitsKept++
			}
		case !polls && !kept:
			t.Errorf("it is no polling, and dropped: %s", r)
		case polls && r.DurationMS < 100 && kept != (first || inShare(t, r.TraceID)):
			t.Errorf("its first: %v, in the share: %v, kept: %v: %s", first, inShare(t, r.TraceID), kept, r)
		}
	}
	if failed < 8 || exits != 30 || exitsKept > 12 || exitsKept < 5 {
		t.Errorf("%d failed calls, %d failed probes, of which %d are kept for that", failed, exits, exitsKept)
	}
	m := sampledSaid.FindStringSubmatch(n.tap.Said())
	if m == nil {
		t.Fatalf("it is not said what was not sampled: %s", n.tap.Said())
	}
	calls, err := strconv.Atoi(m[1])
	exported, err2 := strconv.Atoi(m[2])
	not, err3 := strconv.Atoi(m[3])
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	if calls != len(n.tap.Records()) || not != notSampled || exported != len(spans)+len(n.Roots()) || calls != len(spans)+not {
		t.Errorf("%d records, %d of them without a span, %d spans and %d roots and notices; said is %q", len(n.tap.Records()), notSampled, len(spans), len(n.Roots()), m[0])
	}
	if notSampled < len(n.tap.Records())*3/4 {
		t.Errorf("%d of %d calls are not sampled", notSampled, len(n.tap.Records()))
	}
}

// polled are the methods that the kubelet polls here.
var polled = []string{"Version", "Status", "ListPodSandbox", "ListContainers", "ImageFsInfo", "NodeGetCapabilities", "PodSandboxStatus", "ImageStatus"}

// inShare: a tenth of all trace ids, by their second half.
func inShare(t *testing.T, traceID string) bool {
	x, err := strconv.ParseUint(traceID[16:], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return float64(x>>1) < 0.1*(1<<63)
}
