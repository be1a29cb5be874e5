package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pod is a pod, static or an API server's, that runs until it is told to end.
type Pod struct {
	Name        string // of the manifest; of a static one the kubelet adds the node's
	Image       string // empty: BusyboxImage
	HostNetwork bool   // the lab's network namespace, and not one from CNI

	Pull       bool     // the image is pulled, also if it is there
	Init       []string // names of containers that run to their end, first
	Containers []string // names; none: ContainerName alone
	Volumes    []Volume
}

// Volume is a CSI volume of a pod, for all of its containers.
type Volume struct {
	Name   string
	Claim  string // empty: it is written in the pod
	Driver string // of a volume that is
}

// FullName is what the kubelet calls a static pod, in the namespace "default".
func (p Pod) FullName() string { return p.Name + "-" + node }

// ContainerName is the name of a pod's container if it has but one.
const ContainerName = "main"

// object is the pod as the kubelet reads it.
func (p Pod) object() object {
	var mounts, volumes, init, containers []any
	for _, v := range p.Volumes {
		source := object{"csi": object{"driver": v.Driver}}
		if v.Claim != "" {
			source = object{"persistentVolumeClaim": object{"claimName": v.Claim}}
		}
		source["name"] = v.Name
		volumes = append(volumes, source)
		mounts = append(mounts, object{"name": v.Name, "mountPath": "/volumes/" + v.Name})
	}
	container := func(name, script string) object {
		c := object{"name": name, "image": cmp.Or(p.Image, BusyboxImage), "command": []string{"sh", "-c", script}, "volumeMounts": mounts}
		if p.Pull {
			c["imagePullPolicy"] = "Always"
		}
		return c
	}
	for _, name := range p.Init {
		init = append(init, container(name, "true"))
	}
	for _, name := range p.Containers {
		containers = append(containers, container(name, untilTold))
	}
	if len(p.Containers) == 0 {
		containers = []any{container(ContainerName, untilTold)}
	}
	return object{
		"apiVersion": "v1",
		"kind":       "Pod",
		"metadata":   object{"name": p.Name, "namespace": "default"},
		"spec": object{
			"hostNetwork": p.HostNetwork, "terminationGracePeriodSeconds": 2,
			"automountServiceAccountToken": false, "enableServiceLinks": false,
			"initContainers": init, "containers": containers, "volumes": volumes,
		},
	}
}

// Mark is a file that each container leaves in each of its volumes.
const Mark = "mark"

const untilTold = "trap exit TERM; for v in /volumes/*; do touch $v/" + Mark + "; done 2>/dev/null; while :; do sleep 0.1; done"

// Put gives the kubelet a static pod to run. The file appears whole: it may be
// read at once.
func (k *Kubelet) Put(p Pod) {
	k.lab.t.Helper()
	manifest, err := json.Marshal(p.object()) // JSON will do for YAML
	if err == nil {
		err = os.Rename(k.lab.Write("kubelet/manifest", string(manifest)), k.manifestPath(p))
	}
	if err != nil {
		k.lab.t.Fatalf("lab: put static pod %s: %v", p.Name, err)
	}
}

// Remove takes a static pod away.
func (k *Kubelet) Remove(p Pod) {
	k.lab.t.Helper()
	if err := os.Remove(k.manifestPath(p)); err != nil {
		k.lab.t.Fatalf("lab: remove static pod %s: %v", p.Name, err)
	}
}

func (k *Kubelet) manifestPath(p Pod) string {
	return k.lab.Path("kubelet/manifests", p.Name+".yaml")
}

// podTime is how long a pod may take to run, or to be gone, on a busy machine.
const podTime = 90 * time.Second

// Running waits until a pod runs, by containerd's own word, and returns the ids
// of its sandbox and its container.
func (k *Kubelet) Running(p Pod) (sandbox, container string) {
	k.lab.t.Helper()
	k.Until("pod "+p.FullName()+" runs", podTime, func() bool {
		sandboxes, containers := k.alive(p)
		if len(sandboxes) != 1 || len(containers) != 1 {
			return false
		}
		sandbox, container = sandboxes[0], containers[0]
		return true
	})
	return sandbox, container
}

// Gone waits until nothing of a pod runs, by containerd's own word.
func (k *Kubelet) Gone(p Pod) {
	k.lab.t.Helper()
	k.Until("pod "+p.FullName()+" is gone", podTime, func() bool {
		sandboxes, containers := k.alive(p)
		return len(sandboxes)+len(containers) == 0
	})
}

// alive are the sandboxes and the containers of a pod that run.
func (k *Kubelet) alive(p Pod) (sandboxes, containers []string) {
	k.lab.t.Helper()
	ss, cs := k.running(map[string]string{"io.kubernetes.pod.name": p.FullName()})
	for _, s := range ss {
		sandboxes = append(sandboxes, s.GetId())
	}
	for _, c := range cs {
		containers = append(containers, c.GetId())
	}
	return sandboxes, containers
}

// Restarted names the sandboxes and the containers that run and are not the first
// that their pod has had.
func (k *Kubelet) Restarted() (again []string) {
	k.lab.t.Helper()
	ss, cs := k.running(nil)
	for _, s := range ss {
		if s.GetMetadata().GetAttempt() > 0 {
			again = append(again, s.String())
		}
	}
	for _, c := range cs {
		if c.GetMetadata().GetAttempt() > 0 {
			again = append(again, c.String())
		}
	}
	return again
}

// running asks containerd for what runs with these labels.
func (k *Kubelet) running(labels map[string]string) ([]*cri.PodSandbox, []*cri.Container) {
	k.lab.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), podTime)
	defer cancel()
	ss, err := k.cri.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
		State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}, LabelSelector: labels,
	}})
	if err != nil {
		k.lab.t.Fatalf("lab: ask containerd for the sandboxes with %v: %v", labels, err)
	}
	cs, err := k.cri.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}, LabelSelector: labels,
	}})
	if err != nil {
		k.lab.t.Fatalf("lab: ask containerd for the containers with %v: %v", labels, err)
	}
	return ss.GetItems(), cs.GetContainers()
}
