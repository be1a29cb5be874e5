package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// load is a kind of call, made by so many at a time.
type load struct {
	call  string
	width int
	// turn is how long one turn lasts; its last calls are waited for.
	turn time.Duration
	do   func(context.Context, *fakecri.Kubelet) error
}

const (
	callEmpty = "empty call"
	callList  = "110-pod list"
	callBig   = "16 MiB list"
	atOnce    = 16
)

// loads are all that is measured.
var loads = []load{
	{callEmpty, 1, 250 * time.Millisecond, empty},
	{callEmpty, atOnce, 350 * time.Millisecond, empty},
	{callList, 1, 200 * time.Millisecond, list},
	{callList, atOnce, 250 * time.Millisecond, list},
	{callBig, 1, 300 * time.Millisecond, big},
}

func empty(ctx context.Context, k *fakecri.Kubelet) error {
	_, err := k.Runtime.Version(ctx, &cri.VersionRequest{})
	return err
}

func list(ctx context.Context, k *fakecri.Kubelet) error {
	got, err := k.Runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err == nil && len(got.Items) != pods {
		err = fmt.Errorf("a list of %d pods, not of %d", len(got.Items), pods)
	}
	return err
}

func big(ctx context.Context, k *fakecri.Kubelet) error {
	got, err := k.Runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{Id: bigList}})
	if err == nil && len(got.Containers) < 10*pods {
		err = fmt.Errorf("a list of only %d containers", len(got.Containers))
	}
	return err
}

// turn is what one turn of one way gave.
type turn struct {
	calls   int64
	p50     time.Duration
	elapsed time.Duration
	cpu     map[string]time.Duration // by process, with what it did until it was at rest
	behind  time.Duration            // how long after the last call that was
}

func (t *turn) perSecond() float64 { return float64(t.calls) / t.elapsed.Seconds() }

// play makes l's calls for one turn and reads what the processes spent.
func (v *via) play(ctx context.Context, l load, all []*process) (*turn, error) {
	t := &turn{cpu: map[string]time.Duration{}}
	for _, p := range all {
		t.cpu[p.name] = -p.cpu()
	}
	took := make([][]time.Duration, l.width)
	errs := make(chan error, l.width)
	var workers sync.WaitGroup
	begin := time.Now()
	for i := range l.width {
		workers.Go(func() {
			for last := begin; last.Sub(begin) < l.turn; {
				if err := l.do(ctx, v.kubelet); err != nil {
					errs <- fmt.Errorf("%s, %s: %w", v.name, l.call, err)
					return
				}
				now := time.Now()
				took[i] = append(took[i], now.Sub(last))
				last = now
			}
		})
	}
	workers.Wait()
	t.elapsed = time.Since(begin)
	each := slices.Concat(took...)
	t.calls = int64(len(each))
	v.calls += t.calls
	if len(errs) > 0 {
		return nil, <-errs
	}
	slices.Sort(each)
	t.p50 = each[len(each)/2]
	t.behind = rest(v.between)
	for _, p := range all {
		t.cpu[p.name] += p.cpu()
	}
	return t, nil
}

const (
	// atRest is how long a process must have used no processor to be at rest: several ticks of the clock it is told by.
	atRest = 60 * time.Millisecond
	// restAtMost bounds the wait for that.
	restAtMost = 5 * time.Second
)

// rest waits until processes are at rest, and says how long they were not.
func rest(all []*process) time.Duration {
	used := func() (sum time.Duration) {
		for _, p := range all {
			sum += p.cpu()
		}
		return sum
	}
	begin := time.Now()
	last, since := used(), begin
	for time.Since(since) < atRest && time.Since(begin) < restAtMost {
		time.Sleep(5 * time.Millisecond)
		if now := used(); now != last {
			last, since = now, time.Now()
		}
	}
	return since.Sub(begin)
}

func (l load) name() string {
	if l.width == 1 {
		return l.call + ", one at a time"
	}
	return fmt.Sprintf("%s, %d at a time", l.call, l.width)
}
