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
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The scene is what a demo shows: a pod that starts; one whose volume's server refuses twice, which the kubelet retries; one
// that stops.

// stopTimeout bounds a round of polling that has begun.
const stopTimeout = 5 * time.Second

// ScriptScene makes the runtime take its time, as a real one does.
func (r *Runtime) ScriptScene() {
	r.On(cri.RuntimeService_RunPodSandbox_FullMethodName, Delay(180*time.Millisecond))
	r.On(cri.ImageService_PullImage_FullMethodName, Delay(900*time.Millisecond))
	r.On(cri.RuntimeService_StartContainer_FullMethodName, Delay(60*time.Millisecond))
	r.On(cri.RuntimeService_StopContainer_FullMethodName, Delay(400*time.Millisecond))
}

// ScriptScene makes the first two NodePublishVolume calls for each target fail as an NFS driver does whose server is down.
func (d *Driver) ScriptScene() {
	var mu sync.Mutex
	tries := map[string]int{}
	d.On(csi.Node_NodePublishVolume_FullMethodName, Delay(700*time.Millisecond), Reply(func(req any) (any, error) {
		target := req.(*csi.NodePublishVolumeRequest).GetTargetPath()
		mu.Lock()
		defer mu.Unlock()
		if tries[target]++; tries[target] > 2 {
			return &csi.NodePublishVolumeResponse{}, nil
		}
		return nil, status.Errorf(codes.Internal, "mount failed: exit status 32\nMounting command: mount\n"+
			"Mounting arguments:  -t nfs -o vers=4.1 nfs.example.internal:/exports/web %s\nOutput: mount.nfs: Connection refused\n", target)
	}))
}

// PlayScene plays the scene once, with a driver's volume in it unless driver is empty. Rounds differ in their pods' names.
// What happens goes to say, one line each. An error is a pod that could not be started or stopped before ctx ended.
func (k *Kubelet) PlayScene(ctx context.Context, driver string, round int, say func(string)) error {
	pod := func(namespace, name, image string, volumes ...Volume) Pod {
		return Pod{
			Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, round), Volumes: volumes,
			Containers: []Container{{Name: name, Image: image}},
		}
	}
	start := func(p Pod) (*RunningPod, error) {
		say(fmt.Sprintf("the kubelet starts pod %s/%s", p.Namespace, p.Name))
		running, err := k.StartPod(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("pod %s/%s did not start: %w", p.Namespace, p.Name, err)
		}
		say(fmt.Sprintf("pod %s/%s runs", p.Namespace, p.Name))
		return running, nil
	}
	report, err := start(pod("batch", "report", "registry.example.com/batch/report:7"))
	if err != nil {
		return err
	}
	if driver != "" {
		if _, err := start(pod("prod", "web", "registry.example.com/web:1.9", Volume{
			Driver: driver, Handle: "nfs.example.internal#exports#web", PV: "pvc-1f9c", PVC: "web-data", FSType: "nfs",
			Context: map[string]string{"server": "nfs.example.internal", "share": "/exports/web"},
		})); err != nil {
			return err
		}
	}
	say(fmt.Sprintf("the kubelet stops pod %s/%s", report.Namespace, report.Name))
	return k.StopPod(ctx, report)
}

// PollUntil polls as the kubelet does, a round at an interval, until ctx ends. A round that has begun then is not cut off, but
// given a few seconds. One that fails is said and no error, as a kubelet would go on too.
func (k *Kubelet) PollUntil(ctx context.Context, every time.Duration, say func(string)) {
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
				say("poll: " + first)
			}
			cancel()
		}
	}
}
