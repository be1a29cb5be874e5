package fakecri

import (
	"context"
	"errors"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CallAllCRI calls every method of CRI v1 once, in an order in which all can succeed, on a pod that it makes and removes. Of
// GetContainerEvents it reads one event and cancels: OK here, CANCELLED on the wire.
func (k *Kubelet) CallAllCRI(ctx context.Context) []Result {
	ctx, cancel := context.WithTimeout(ctx, runtimeTimeout)
	defer cancel() // also of the event stream

	rec := &recorder{streams: k.runtimeConn, invoke: k.runtimeConn.Invoke}
	imageRec := &recorder{streams: k.imageConn, invoke: k.imageConn.Invoke}
	rt, im := cri.NewRuntimeServiceClient(rec), cri.NewImageServiceClient(imageRec)

	pod := Pod{Namespace: "fakecri", Name: "call-all", Containers: []Container{{
		Name: "main", Image: "registry.example.com/team/all:1", Args: []string{"--verbose"}, Env: map[string]string{"DB_PASSWORD": "hunter2"},
	}}}.withDefaults()
	sandboxConfig := pod.sandboxConfig(0)
	spec := &cri.ImageSpec{Image: pod.Containers[0].Image}

	rt.Version(ctx, &cri.VersionRequest{Version: "0.1.0"})
	rt.Status(ctx, &cri.StatusRequest{Verbose: true})
	rt.RuntimeConfig(ctx, &cri.RuntimeConfigRequest{})
	rt.UpdateRuntimeConfig(ctx, &cri.UpdateRuntimeConfigRequest{RuntimeConfig: &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: "10.244.0.0/24"}}})
	events, err := rt.GetContainerEvents(ctx, &cri.GetEventsRequest{})
	if err == nil {
		_, _ = events.Header() // it watches; an error comes again with Recv
	}

	pulled, _ := im.PullImage(ctx, &cri.PullImageRequest{Image: spec, SandboxConfig: sandboxConfig, Auth: &cri.AuthConfig{Username: "robot", Password: "hunter2"}})
	im.ImageStatus(ctx, &cri.ImageStatusRequest{Image: spec, Verbose: true})
	im.ListImages(ctx, &cri.ListImagesRequest{})
	drain(im.StreamImages(ctx, &cri.StreamImagesRequest{}))
	im.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{})

	run, _ := rt.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: sandboxConfig})
	sb := run.GetPodSandboxId()
	switch {
	case err != nil: // recorded
	case run == nil:
		rec.note(cri.RuntimeService_GetContainerEvents_FullMethodName, errors.New("no sandbox, so no event"))
	default:
		if _, err := events.Recv(); err == nil { // recorded if it failed
			rec.note(cri.RuntimeService_GetContainerEvents_FullMethodName, nil)
		}
	}
	rt.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: sb, Verbose: true})
	rt.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	drain(rt.StreamPodSandboxes(ctx, &cri.StreamPodSandboxesRequest{}))
	rt.UpdatePodSandboxResources(ctx, &cri.UpdatePodSandboxResourcesRequest{PodSandboxId: sb, Resources: &cri.LinuxContainerResources{CpuShares: 204}})
	rt.PortForward(ctx, &cri.PortForwardRequest{PodSandboxId: sb, Port: []int32{8080}})

	created, _ := rt.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: sb, Config: pod.containerConfig(pod.Containers[0], pulled.GetImageRef(), 0), SandboxConfig: sandboxConfig,
	})
	c := created.GetContainerId()
	rt.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: c})
	rt.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c, Verbose: true})
	rt.ListContainers(ctx, &cri.ListContainersRequest{})
	drain(rt.StreamContainers(ctx, &cri.StreamContainersRequest{}))
	rt.UpdateContainerResources(ctx, &cri.UpdateContainerResourcesRequest{ContainerId: c, Linux: &cri.LinuxContainerResources{CpuShares: 204}})
	rt.ReopenContainerLog(ctx, &cri.ReopenContainerLogRequest{ContainerId: c})
	rt.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: c, Cmd: []string{"echo", "ready"}, Timeout: 1})
	rt.Exec(ctx, &cri.ExecRequest{ContainerId: c, Cmd: []string{"sh"}, Tty: true, Stdin: true, Stdout: true})
	rt.Attach(ctx, &cri.AttachRequest{ContainerId: c, Stdout: true})

	rt.ContainerStats(ctx, &cri.ContainerStatsRequest{ContainerId: c})
	rt.ListContainerStats(ctx, &cri.ListContainerStatsRequest{})
	drain(rt.StreamContainerStats(ctx, &cri.StreamContainerStatsRequest{}))
	rt.PodSandboxStats(ctx, &cri.PodSandboxStatsRequest{PodSandboxId: sb})
	rt.ListPodSandboxStats(ctx, &cri.ListPodSandboxStatsRequest{})
	drain(rt.StreamPodSandboxStats(ctx, &cri.StreamPodSandboxStatsRequest{}))
	rt.ListMetricDescriptors(ctx, &cri.ListMetricDescriptorsRequest{})
	rt.ListPodSandboxMetrics(ctx, &cri.ListPodSandboxMetricsRequest{})
	drain(rt.StreamPodSandboxMetrics(ctx, &cri.StreamPodSandboxMetricsRequest{}))

	rt.CheckpointContainer(ctx, &cri.CheckpointContainerRequest{ContainerId: c, Location: "/var/lib/kubelet/checkpoints/main.tar", Timeout: 10})
	rt.CheckpointPod(ctx, &cri.CheckpointPodRequest{PodSandboxId: sb, OutputPath: "/var/lib/kubelet/checkpoints/call-all"})
	rt.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: c, Timeout: 30})
	rt.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: c})
	rt.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: sb})
	rt.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: sb})
	restored, _ := rt.RestorePod(ctx, &cri.RestorePodRequest{
		CheckpointPath: "/var/lib/kubelet/checkpoints/call-all", Config: sandboxConfig,
		ContainerConfigs: []*cri.ContainerConfig{pod.containerConfig(pod.Containers[0], pulled.GetImageRef(), 1)},
	})
	im.RemoveImage(ctx, &cri.RemoveImageRequest{Image: spec})

	// The restored pod goes unrecorded, as a second call of its method.
	_, _ = k.Runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: restored.GetPodSandboxId()})
	return append(rec.results, imageRec.results...)
}
