// Package day plays the calls that a kubelet makes in a day on a node of 110 pods.
package day

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// Day is one of them: Second plays a second of it.
type Day struct {
	Now  time.Time          // of the node; a millisecond later after each call
	Ends func(*call.Record) // is told of each call, which is in no pod's trace yet

	rand   *rand.Rand
	hard   float64    // how much longer than usual all takes
	live   []call.Pod // that came and will go
	serial int
}

// New is the same day for the same seed.
func New(seed uint64, ends func(*call.Record)) *Day {
	return &Day{Ends: ends, rand: rand.New(rand.NewPCG(seed, 2))}
}

// Old is one of the pods that run all day.
func Old(i int) call.Pod {
	return call.Pod{Namespace: "shop", Name: fmt.Sprint("web-", i), UID: fmt.Sprint("uid-", i)}
}

func ID(kind string, n int) string { return fmt.Sprintf("%s-%064d", kind, n) }

const (
	cri, image, node, identity = "runtime.v1.RuntimeService", "runtime.v1.ImageService", "csi.v1.Node", "csi.v1.Identity"
)

// Second is what happens in one. Periods are the kubelet's.
func (d *Day) Second(n int) {
	d.Now = time.Date(2026, 10, 5, 0, 0, n, 0, time.UTC)
	d.hard = 1
	if hour := n / 3600; hour == 14 { // the disk is busy
		d.hard = 20
	}
	every := func(seconds, offset int) bool { return (n+offset)%seconds == 0 }

	d.poll(cri, "ListPodSandbox", 3)
	d.poll(cri, "ListContainers", 5)
	if every(5, 0) {
		d.poll(cri, "Status", 1)
	}
	if every(10, 1) {
		d.poll(image, "ImageFsInfo", 1)
		d.poll(identity, "Probe", 1)
	}
	if every(30, 2) {
		d.poll(image, "ListImages", 4)
	}
	if every(60, 3) {
		d.poll(cri, "Version", 1)
	}
	for i := range 110 {
		if i%3 == 0 && every(10, i) {
			d.probe(i, n)
		}
		if i%2 == 0 && every(60, i) {
			d.poll(node, "NodeGetCapabilities", 1)
			d.poll(node, "NodeGetVolumeStats", 2)
		}
		if i%10 == 0 && every(60, i+7) { // requiresRepublish
			d.poll(node, "NodeGetCapabilities", 1)
			d.publish(Old(i), 8, "OK")
		}
		if i == 7 && every(300, 0) { // crashes as soon as it runs
			d.ofPod(Old(i), cri, "CreateContainer", 90, "OK")
			d.ofPod(Old(i), cri, "StartContainer", 40, "OK")
			d.ofPod(Old(i), cri, "ContainerStatus", 1, "OK")
			d.ofPod(Old(i), cri, "RemoveContainer", 20, "OK")
		}
	}
	if every(180, 0) {
		d.start()
	}
	if every(180, 90) && len(d.live) > 10 {
		d.stop()
	}
}

// probe is an exec probe: one pod's fails for six hours, and now and then another's.
func (d *Day) probe(i, second int) {
	exit := int32(0)
	if i == 9 && second/3600 >= 6 && second/3600 < 12 || d.rand.IntN(500) == 0 {
		exit = 1
	}
	d.ends(&call.Record{Service: cri, Method: "ExecSync", Code: "OK", Pod: Old(i), Container: call.Container{ID: ID("container", i), Name: "main"}, ExitCode: &exit}, 60)
}

// poll fails now and then.
func (d *Day) poll(service, method string, ms float64) {
	code := "OK"
	if d.rand.IntN(1000) == 0 {
		code = []string{"UNAVAILABLE", "DEADLINE_EXCEEDED", "NOT_FOUND", ""}[d.rand.IntN(4)]
	}
	d.ends(&call.Record{Service: service, Method: method, Code: code}, ms)
}

func (d *Day) ofPod(p call.Pod, service, method string, ms float64, code string) {
	d.ends(&call.Record{
		Service: service, Method: method, Code: code, Pod: p, SandboxID: "sandbox-" + p.UID, Image: "app:1",
		Container: call.Container{ID: "container-" + p.UID, Name: "main"},
	}, ms)
}

func (d *Day) publish(p call.Pod, ms float64, code string) {
	d.ends(&call.Record{
		Service: node, Method: "NodePublishVolume", Code: code, Pod: p,
		Volume: call.Volume{ID: "volume-" + p.UID, Path: "/pods/" + p.UID + "/mount"},
	}, ms)
}

// start is a pod's. One in eight has trouble.
func (d *Day) start() {
	d.serial++
	p := call.Pod{Namespace: "batch", Name: fmt.Sprint("job-", d.serial), UID: fmt.Sprint("job-uid-", d.serial)}
	d.live = append(d.live, p)
	d.poll(node, "NodeGetCapabilities", 1)
	if d.serial%8 == 0 {
		d.publish(p, 900, "INTERNAL")
		d.poll(node, "NodeGetCapabilities", 1)
		d.publish(p, 900, "INTERNAL")
	}
	d.publish(p, 40, "OK")
	d.ofPod(p, cri, "RunPodSandbox", 400, "OK")
	d.poll(cri, "PodSandboxStatus", 1)
	d.poll(image, "ImageStatus", 1)
	d.ofPod(p, image, "PullImage", 2500, "OK")
	d.ofPod(p, cri, "CreateContainer", 90, "OK")
	d.ofPod(p, cri, "StartContainer", 50, "OK")
	d.poll(cri, "PodSandboxStatus", 1)
	d.poll(cri, "ContainerStatus", 1)
}

func (d *Day) stop() {
	p := d.live[0]
	d.live = d.live[1:]
	d.ofPod(p, cri, "StopContainer", 700, "OK")
	d.ofPod(p, cri, "StopPodSandbox", 200, "OK")
	d.ends(&call.Record{Service: node, Method: "NodeUnpublishVolume", Code: "OK", Pod: p, Volume: call.Volume{ID: "volume-" + p.UID}}, 20)
	d.poll(cri, "ContainerStatus", 1)
	d.ofPod(p, cri, "RemoveContainer", 30, "OK")
	d.ofPod(p, cri, "RemovePodSandbox", 20, "OK")
}

// ends is a call's. It takes so many milliseconds as a rule, at times a multiple.
func (d *Day) ends(r *call.Record, ms float64) {
	r.Start, r.State, r.Socket = d.Now, call.Done, "/run/"+r.Service
	r.DurationMS = ms * d.hard * math.Exp(d.rand.NormFloat64()/2)
	if d.rand.IntN(300) == 0 {
		r.DurationMS *= 100
	}
	if r.Code == "" {
		r.State = call.Lost
	}
	d.Now = d.Now.Add(time.Millisecond)
	r.TraceID, r.SpanID = fmt.Sprintf("%016x%016x", d.rand.Uint64(), d.rand.Uint64()), fmt.Sprintf("%016x", d.rand.Uint64())
	d.Ends(r)
}
