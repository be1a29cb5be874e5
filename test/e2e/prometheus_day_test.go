package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// day is what happens on a node all the time, until its end: nothing of it happens once,
// for of that a rate between two scrapes may show nothing.
type day struct {
	t         testing.TB
	node      *fakeNode
	agent     *agent
	good, bad string // drivers' sockets; the one's mounts succeed
	older     *fakecri.Kubelet

	ctx  context.Context
	stop func()
	busy sync.WaitGroup
}

// The names of the drivers.
const goodDriver, badDriver = "good.csi.test", "bad.csi.test"

// newDay has a kubelet connect, before there is an agent.
func newDay(t testing.TB, n *fakeNode, a *agent) *day {
	t.Helper()
	bad := a.path("kubelet/plugins", badDriver, "csi.sock")
	a.serves(bad, badDriver).On(csi.Node_NodePublishVolume_FullMethodName, fakecri.Fail(codes.Internal, "mount failed: exit status 32"))
	d := &day{t: t, node: n, agent: a, good: a.driver(goodDriver), bad: bad, older: n.kubelet(n.cri, n.csi)}
	if _, err := d.older.Runtime.Version(t.Context(), &cri.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	d.ctx, d.stop = context.WithCancel(t.Context())
	return d
}

// again does something at an interval until the day's end, whether or not it fails.
func (d *day) again(every time.Duration, do func(round int)) {
	d.busy.Go(func() {
		var under sync.WaitGroup
		defer under.Wait()
		for round := 0; d.ctx.Err() == nil; round++ {
			under.Go(func() { do(round) })
			select {
			case <-d.ctx.Done():
			case <-time.After(every):
			}
		}
	})
}

// begins has pods come and go, with volumes: some are slow, and some do not start. The
// runtime says that it is not well, hangs, and loses connections.
func (d *day) begins() {
	n := d.node
	n.On(cri.RuntimeService_Status_FullMethodName, fakecri.Fail(codes.Unavailable, "it is not well"))
	n.On(cri.RuntimeService_RunPodSandbox_FullMethodName, fakecri.Delay(10200*time.Millisecond))
	n.On(cri.RuntimeService_ContainerStats_FullMethodName, fakecri.Hang())
	n.On(cri.RuntimeService_ContainerStatus_FullMethodName, fakecri.Hang())
	k, err := fakecri.NewKubelet(n.cri, fakecri.WithCSI(goodDriver, d.good), fakecri.WithCSI(badDriver, d.bad), fakecri.WithBackoff(100*time.Millisecond))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { k.Close() })
	pod := func(driver string, round int, within time.Duration) {
		volume := fakecri.Volume{Driver: driver, Handle: fmt.Sprint(driver, round), PV: fmt.Sprint("pv-", round)}
		whole, done := context.WithTimeout(d.ctx, within)
		defer done()
		running, _ := k.StartPod(whole, fakecri.Pod{Namespace: driver, Name: fmt.Sprint("pod-", round), Volumes: []fakecri.Volume{volume}})
		_ = k.StopPod(d.ctx, running)
	}
	d.again(time.Second, func(round int) { pod(goodDriver, round, time.Minute) })
	d.again(500*time.Millisecond, func(round int) { pod(badDriver, round, 400*time.Millisecond) })
	d.again(200*time.Millisecond, func(int) { _ = k.Poll(d.ctx) })
	d.again(200*time.Millisecond, func(int) { _, _ = k.Image.PullImage(d.ctx, &cri.PullImageRequest{}) }) // of no name: refused
	d.busy.Go(func() { _, _ = k.Runtime.ContainerStats(d.ctx, &cri.ContainerStatsRequest{ContainerId: "c"}) })
	d.again(time.Second, func(int) {
		lost, err := fakecri.NewKubelet(n.cri)
		if err != nil {
			return
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = lost.Runtime.ContainerStatus(d.ctx, &cri.ContainerStatusRequest{ContainerId: "c"})
		}()
		select {
		case <-d.ctx.Done():
		case <-time.After(300 * time.Millisecond): // it has been sent, most often
		}
		lost.Close()
		<-ended
	})
}

// lists has the runtime answer more than waits for a tap that does not read.
func (d *day) lists() {
	d.t.Helper()
	d.node.AddPods(1) // has an image
	d.node.On(cri.ImageService_ListImages_FullMethodName, fakecri.Grow(8<<20))
	k := d.node.kubelet(d.node.cri, d.node.csi)
	for range 5 {
		if _, err := k.Image.ListImages(d.t.Context(), &cri.ListImagesRequest{}); err != nil {
			d.t.Errorf("with the agent stopped: %v", err)
		}
	}
}

func (d *day) ends() {
	d.stop()
	d.busy.Wait()
	d.older.Close()
}
