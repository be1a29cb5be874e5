package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// node is what grpc-tap holds on a node of 110 pods.
type node struct {
	Lasted     time.Duration // of the kubelet's time
	Took       time.Duration
	Relay, Tap memory
	CPU        time.Duration // of both, in all that time
	Account    account
}

const (
	// nodeTicks are the kubelet's seconds that are played.
	nodeTicks = 400
	// nodeTick is how long each of them takes here.
	nodeTick = 50 * time.Millisecond
)

// fullNode plays what a kubelet asks of a full node's runtime, at a higher rate: the relist of every second, the status of
// every fifth, statistics and the probes of every tenth, and now and then a pod that comes and goes.
func (b *bench) fullNode(ctx context.Context, r *results) error {
	upstream, listen := filepath.Join(b.dir, "node.sock"), filepath.Join(b.dir, "node-tap.sock")
	if _, err := b.startRole(ctx, "runtime", upstream, ""); err != nil {
		return err
	}
	tap, err := b.startTap(ctx, listen, upstream, os.DevNull)
	if err != nil {
		return err
	}
	k, err := fakecri.NewKubelet(listen)
	if err != nil {
		return err
	}
	n := &nodeLoad{Kubelet: k}
	stop := watch(tap.relay, tap.tap)
	begin := time.Now()
	for second := range nodeTicks {
		if err := n.second(ctx, second); err != nil {
			return fmt.Errorf("second %d of the node: %w", second, err)
		}
		time.Sleep(time.Until(begin.Add(time.Duration(second+1) * nodeTick)))
	}
	rest([]*process{tap.relay, tap.tap})
	most := stop()
	r.node = node{
		Lasted: nodeTicks * time.Second, Took: time.Since(begin),
		Relay: most[0], Tap: most[1], CPU: tap.relay.cpu() + tap.tap.cpu(),
	}
	r.node.Tap.RSS = max(r.node.Tap.RSS, tap.tap.memory("VmHWM"))
	if err := k.Close(); err != nil {
		return err
	}
	r.node.Account, err = tap.end(ctx, n.calls)
	b.end()
	return err
}

// nodeLoad is a kubelet that counts its calls.
type nodeLoad struct {
	*fakecri.Kubelet
	calls int64
}

// second is one second of the kubelet's.
func (n *nodeLoad) second(ctx context.Context, now int) error {
	if _, err := n.Runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{}); err != nil {
		return err
	}
	listed, err := n.Runtime.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return err
	}
	n.calls += 2
	// A tenth of the pods is probed every second, and one of them looked at.
	for i, c := range listed.Containers {
		if i%10 != now%10 {
			continue
		}
		n.calls++
		if _, err := n.Runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: c.Id, Cmd: []string{"/bin/health"}, Timeout: 1}); err != nil {
			return err
		}
	}
	c := listed.Containers[now%len(listed.Containers)]
	_, err = n.Runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.Id})
	n.calls++
	if err == nil && now%5 == 0 {
		_, err = n.Runtime.Status(ctx, &cri.StatusRequest{})
		n.calls++
	}
	if err == nil && now%10 == 0 {
		_, err = n.Runtime.ListPodSandboxStats(ctx, &cri.ListPodSandboxStatsRequest{})
		n.calls++
	}
	if err == nil && now%10 == 5 {
		_, err = n.Image.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{})
		n.calls++
	}
	return err
}
