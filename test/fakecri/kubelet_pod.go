package fakecri

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A RunningPod is a pod that StartPod has started, with the ids it was given.
type RunningPod struct {
	Pod
	SandboxID    string
	ContainerIDs []string // as Pod.Containers
}

// StartPod makes the kubelet's calls for a new pod, in its order: for each volume NodeStageVolume and NodePublishVolume,
// each after asking for the node's capabilities; RunPodSandbox; and for each container PullImage where ImageStatus shows none,
// CreateContainer, StartContainer. What fails is retried until ctx ends; a container that would not start is created anew.
func (k *Kubelet) StartPod(ctx context.Context, pod Pod) (*RunningPod, error) {
	p := &RunningPod{Pod: pod.withDefaults()}
	for _, v := range p.Volumes {
		if err := k.mount(ctx, p.Pod, v); err != nil {
			return p, err
		}
	}
	config := p.sandboxConfig(0)
	if err := k.retry(ctx, func() error {
		resp, err := k.Runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
		p.SandboxID = resp.GetPodSandboxId()
		return err
	}); err != nil {
		return p, err
	}
	if _, err := k.Runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.SandboxID}); err != nil {
		return p, err
	}
	for _, c := range p.Containers {
		id, err := k.startContainer(ctx, p, c, config)
		if err != nil {
			return p, err
		}
		p.ContainerIDs = append(p.ContainerIDs, id)
	}
	return p, nil
}

func (k *Kubelet) startContainer(ctx context.Context, p *RunningPod, c Container, sandbox *cri.PodSandboxConfig) (string, error) {
	spec := &cri.ImageSpec{Image: c.Image}
	var image, id string
	if err := k.retry(ctx, func() error {
		have, err := k.Image.ImageStatus(ctx, &cri.ImageStatusRequest{Image: spec})
		if err != nil || have.GetImage() != nil {
			image = have.GetImage().GetId()
			return err
		}
		pulled, err := k.Image.PullImage(ctx, &cri.PullImageRequest{Image: spec, SandboxConfig: sandbox})
		image = pulled.GetImageRef()
		return err
	}); err != nil {
		return "", err
	}
	attempt := uint32(0)
	err := k.retry(ctx, func() error {
		created, err := k.Runtime.CreateContainer(ctx, &cri.CreateContainerRequest{
			PodSandboxId: p.SandboxID, Config: p.containerConfig(c, image, attempt), SandboxConfig: sandbox,
		})
		if err != nil {
			return err
		}
		attempt++
		id = created.GetContainerId()
		_, err = k.Runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id})
		return err
	})
	return id, err
}

// StopPod makes the kubelet's calls for a pod that goes, in its order: StopContainer for each, StopPodSandbox,
// NodeUnpublishVolume and NodeUnstageVolume for each volume, and the removals. It takes a pod that StartPod left half started
// too. What fails is retried until ctx ends.
func (k *Kubelet) StopPod(ctx context.Context, p *RunningPod) error {
	var steps []func() error
	step := func(f func() error) { steps = append(steps, f) }
	for _, id := range p.ContainerIDs {
		step(func() error {
			_, err := k.Runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 30})
			return err
		})
	}
	if p.SandboxID != "" {
		step(func() error {
			_, err := k.Runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.SandboxID})
			return err
		})
	}
	for _, v := range p.Volumes {
		step(func() error {
			return k.node(ctx, v.Driver, func(ctx context.Context, c csi.NodeClient) error {
				_, err := c.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.Handle, TargetPath: TargetPath(p.UID, v)})
				return err
			})
		})
		if v.Ephemeral {
			continue
		}
		step(func() error {
			return k.node(ctx, v.Driver, func(ctx context.Context, c csi.NodeClient) error {
				_, err := c.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.Handle, StagingTargetPath: StagingPath(v)})
				return err
			})
		})
	}
	for _, id := range p.ContainerIDs {
		step(func() error {
			_, err := k.Runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
			return err
		})
	}
	if p.SandboxID != "" {
		step(func() error {
			_, err := k.Runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.SandboxID})
			return err
		})
	}
	for _, s := range steps {
		if err := k.retry(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// mount stages a volume, unless it is ephemeral, and publishes it.
func (k *Kubelet) mount(ctx context.Context, p Pod, v Volume) error {
	if !v.Ephemeral {
		if err := k.retry(ctx, func() error { return k.stage(ctx, p, v) }); err != nil {
			return err
		}
	}
	return k.retry(ctx, func() error { return k.publish(ctx, p, v) })
}

func (k *Kubelet) stage(ctx context.Context, p Pod, v Volume) error {
	if err := k.node(ctx, v.Driver, capabilities); err != nil {
		return err
	}
	return k.node(ctx, v.Driver, func(ctx context.Context, c csi.NodeClient) error {
		_, err := c.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
			VolumeId: v.Handle, StagingTargetPath: StagingPath(v), VolumeCapability: v.capability(),
			Secrets: v.Secrets, VolumeContext: v.context(p),
		})
		return err
	})
}

func (k *Kubelet) publish(ctx context.Context, p Pod, v Volume) error {
	if err := k.node(ctx, v.Driver, capabilities); err != nil {
		return err
	}
	return k.node(ctx, v.Driver, func(ctx context.Context, c csi.NodeClient) error {
		_, err := c.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
			VolumeId: v.Handle, StagingTargetPath: StagingPath(v), TargetPath: TargetPath(p.UID, v),
			VolumeCapability: v.capability(), Secrets: v.Secrets, VolumeContext: v.podContext(p),
		})
		return err
	})
}

func capabilities(ctx context.Context, c csi.NodeClient) error {
	_, err := c.NodeGetCapabilities(ctx, &csi.NodeGetCapabilitiesRequest{})
	return err
}

// node makes one CSI call on a connection of its own.
func (k *Kubelet) node(ctx context.Context, driver string, call func(context.Context, csi.NodeClient) error) error {
	conn, err := k.DialCSI(driver)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, csiTimeout)
	defer cancel()
	return call(ctx, csi.NewNodeClient(conn))
}
