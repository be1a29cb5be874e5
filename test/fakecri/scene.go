package fakecri

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The scene is what a demo shows: a pod that starts; one that needs a volume whose server refuses twice; both stop.

// stopTimeout bounds what goes on after the scene's time is over.
const stopTimeout = 5 * time.Second

// ScriptScene makes the driver's next two NodePublishVolume calls fail as an NFS driver does whose server is down.
func (d *Driver) ScriptScene() {
	d.On(csi.Node_NodePublishVolume_FullMethodName, Delay(120*time.Millisecond), Reply(func(req any) (any, error) {
		r := req.(*csi.NodePublishVolumeRequest)
		return nil, status.Errorf(codes.Internal, "mount failed: exit status 32\nMounting command: mount\n"+
			"Mounting arguments:  -t nfs -o vers=4.1 nfs.example.internal:/exports/web %s\nOutput: mount.nfs: Connection refused\n", r.GetTargetPath())
	}).Times(2))
}

// PlayScene starts the scene's pods, polls all the while at an interval, and stops them when d has passed or ctx ends. The
// second pod is there only if driver is not empty. What happens goes to say, one line each; a poll that fails is said and no
// error, as a kubelet would go on too.
func (k *Kubelet) PlayScene(ctx context.Context, driver string, d, pollEvery time.Duration, say func(string)) error {
	pods := []Pod{{Namespace: "shop", Name: "cart-7c9d4", Containers: []Container{{Name: "cart", Image: "registry.example.com/shop/cart:2.4"}}}}
	if driver != "" {
		pods = append(pods, Pod{
			Namespace: "prod", Name: "web-0", Containers: []Container{{Name: "web", Image: "registry.example.com/web:1.9"}},
			Volumes: []Volume{{
				Driver: driver, Handle: "nfs.example.internal#exports#web", PV: "pvc-1f9c", PVC: "web-data", FSType: "nfs",
				Context: map[string]string{"server": "nfs.example.internal", "share": "/exports/web"},
			}},
		})
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()

	var mu sync.Mutex // the two goroutines both say
	tell := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		say(fmt.Sprintf(format, args...))
	}
	var polling sync.WaitGroup
	defer polling.Wait()
	pollCtx, endPolling := context.WithCancel(whole)
	defer endPolling() // after the pods are stopped: deferred calls run last first
	polling.Go(func() { k.pollUntil(pollCtx, pollEvery, tell) })

	for _, pod := range pods {
		tell("starting pod %s/%s", pod.Namespace, pod.Name)
		p, err := k.StartPod(ctx, pod)
		defer func() { // also of what is half started; the scene's own time is over by then
			tell("stopping pod %s/%s", p.Namespace, p.Name)
			ctx, cancel := context.WithTimeout(context.WithoutCancel(whole), stopTimeout)
			defer cancel()
			if err := k.StopPod(ctx, p); err != nil {
				tell("pod %s/%s: %v", p.Namespace, p.Name, err)
			}
		}()
		if whole.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("pod %s/%s did not start: %w", pod.Namespace, pod.Name, err)
		}
		tell("pod %s/%s runs", pod.Namespace, pod.Name)
	}
	<-ctx.Done()
	return nil
}

// pollUntil polls until ctx ends. A round that has begun then is not cut off, but given a few seconds.
func (k *Kubelet) pollUntil(ctx context.Context, every time.Duration, tell func(string, ...any)) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			round, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			if err := k.Poll(round); err != nil {
				first, _, _ := strings.Cut(err.Error(), "\n")
				tell("poll: %s", first)
			}
			cancel()
		}
	}
}
