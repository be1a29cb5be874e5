package e2e

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// TestAgentCollectorAbsent has an agent on a node of 110 pods, which come and go, and no
// collector: its memory stays what it is, no call fails, and each span that was not sent
// is counted. Ten seconds; with OUTAGE=1h, an hour.
func TestAgentCollectorAbsent(t *testing.T) {
	lasts := 10 * time.Second
	if s := os.Getenv("OUTAGE"); s != "" {
		var err error
		if lasts, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	n := newFakeNode(t)
	n.AddPods(110)
	a := onAgent(t, n, "otlpEndpoint: 127.0.0.1:1", "otlpInsecure: true", "metricsListen: 127.0.0.1:0", "samplingRatePerMillion: 500000")
	a.env = []string{"OTEL_BSP_MAX_QUEUE_SIZE=64"} // a full queue is what an hour makes of it
	a.argv = append(a.argv, "-o", "none")          // an hour's records are a gigabyte
	a.starts()
	a.stands(n.cri)
	p := pageOf(a.Tap)

	ctx, stop := context.WithTimeout(t.Context(), lasts)
	defer stop()
	k := n.kubelet(n.cri, n.csi)
	var busy sync.WaitGroup
	pods := 0
	busy.Go(func() { k.PollUntil(ctx, 100*time.Millisecond, func(said string) { t.Error(said) }) })
	busy.Go(func() {
		for ; ctx.Err() == nil; pods++ {
			select { // some hundred an hour are a lot for a node, and of each its names are remembered
			case <-ctx.Done():
			case <-time.After(max(lasts/720, time.Second/4)):
			}
			whole, done := context.WithTimeout(context.WithoutCancel(ctx), eventuallyTime)
			pod, err := k.StartPod(whole, fakecri.Pod{Namespace: "churn", Name: fmt.Sprint("pod-", pods)})
			if err == nil {
				err = k.StopPod(whole, pod)
			}
			if done(); err != nil {
				t.Errorf("pod %d: %v", pods, err)
			}
		}
	})
	var rss []int
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(lasts / 10):
			rss = append(rss, a.KiB())
		}
	}
	busy.Wait()
	t.Logf("KiB resident: %v", rss)
	half, last := rss[len(rss)/2], rss[len(rss)-1]
	if last > 128<<10 || lasts > 10*time.Minute && last > half+half/10 { // until then it warms up
		t.Errorf("%d KiB resident, and then %d", half, last)
	}
	// Of each call it was decided whether it has a span, and each span was dropped: those
	// of calls, and a root of each pod's start and stop, which is told 20 seconds later.
	roots := float64(2 * pods)
	a.Until("all is counted", 3*eventuallyTime, func() bool {
		calls, decided, declined := p.value("rpc_client_call_duration_seconds_count"), p.value("grpc_tap_calls_sampled_total"), p.value("grpc_tap_calls_sampled_total", "decision", "declined")
		dropped, sent := p.value("grpc_tap_spans_dropped_total"), p.value("grpc_tap_spans_exported_total")
		if calls != decided || sent != 0 || dropped != decided-declined+roots {
			return false
		}
		t.Logf("%d pods, %.0f calls, %.0f of them not sampled, %.0f spans dropped", pods, calls, declined, dropped)
		return true
	})
	if p.value("grpc_tap_spans_dropped_total", "reason", "queue_full") == 0 {
		t.Error("the queue was never full")
	}
}
