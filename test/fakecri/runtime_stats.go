package fakecri

import (
	"context"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Stats and metrics: every container has used a twentieth of a core since the runtime started, and 12 MiB.

func u64(v uint64) *cri.UInt64Value { return &cri.UInt64Value{Value: v} }

func (n *node) cpu() *cri.CpuUsage {
	used := uint64(time.Since(n.started)) / 20
	return &cri.CpuUsage{Timestamp: now(), UsageCoreNanoSeconds: u64(used), UsageNanoCores: u64(50_000_000)}
}

func memory() *cri.MemoryUsage {
	return &cri.MemoryUsage{
		Timestamp: now(), WorkingSetBytes: u64(12 << 20), UsageBytes: u64(14 << 20), RssBytes: u64(9 << 20),
		PageFaults: u64(2048), MajorPageFaults: u64(3),
	}
}

func filesystem(path string, used uint64) *cri.FilesystemUsage {
	return &cri.FilesystemUsage{
		Timestamp: now(), FsId: &cri.FilesystemIdentifier{Mountpoint: path}, UsedBytes: u64(used), InodesUsed: u64(used >> 12),
	}
}

func (n *node) containerStats(c *container) *cri.ContainerStats {
	return &cri.ContainerStats{
		Attributes: &cri.ContainerAttributes{
			Id: c.id, Metadata: c.config.GetMetadata(), Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		},
		Cpu: n.cpu(), Memory: memory(), WritableLayer: filesystem("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs", 64<<10),
		Swap: &cri.SwapUsage{Timestamp: now(), SwapUsageBytes: u64(0)}, Io: &cri.IoUsage{Timestamp: now()},
	}
}

func (n *node) sandboxStats(sb *sandbox) *cri.PodSandboxStats {
	return &cri.PodSandboxStats{
		Attributes: &cri.PodSandboxAttributes{
			Id: sb.id, Metadata: sb.config.GetMetadata(), Labels: sb.config.GetLabels(), Annotations: sb.config.GetAnnotations(),
		},
		Linux: &cri.LinuxPodSandboxStats{
			Cpu: n.cpu(), Memory: memory(),
			Network: &cri.NetworkUsage{Timestamp: now(), DefaultInterface: &cri.NetworkInterfaceUsage{
				Name: "eth0", RxBytes: u64(7340), RxErrors: u64(0), TxBytes: u64(1204), TxErrors: u64(0),
			}},
			Process:    &cri.ProcessUsage{Timestamp: now(), ProcessCount: u64(2)},
			Containers: collect(n.containersOf(sb.id), n.containerStats),
		},
	}
}

func (s *runtimeService) ContainerStats(_ context.Context, req *cri.ContainerStatsRequest) (*cri.ContainerStatsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.getContainer(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	return &cri.ContainerStatsResponse{Stats: s.containerStats(c)}, nil
}

func (n *node) listContainerStats(f *cri.ContainerStatsFilter) []*cri.ContainerStats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return collect(n.containers.where(func(c *container) bool {
		return (f.GetId() == "" || f.GetId() == c.id) &&
			(f.GetPodSandboxId() == "" || f.GetPodSandboxId() == c.sandboxID) &&
			labelled(c.config.GetLabels(), f.GetLabelSelector())
	}), n.containerStats)
}

func (s *runtimeService) ListContainerStats(_ context.Context, req *cri.ListContainerStatsRequest) (*cri.ListContainerStatsResponse, error) {
	return &cri.ListContainerStatsResponse{Stats: s.listContainerStats(req.GetFilter())}, nil
}

func (s *runtimeService) StreamContainerStats(req *cri.StreamContainerStatsRequest, stream grpc.ServerStreamingServer[cri.StreamContainerStatsResponse]) error {
	return sendChunks(s.listContainerStats(req.GetFilter()), stream, func(chunk []*cri.ContainerStats) *cri.StreamContainerStatsResponse {
		return &cri.StreamContainerStatsResponse{ContainerStats: chunk}
	})
}

func (s *runtimeService) PodSandboxStats(_ context.Context, req *cri.PodSandboxStatsRequest) (*cri.PodSandboxStatsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb, err := s.getSandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	return &cri.PodSandboxStatsResponse{Stats: s.sandboxStats(sb)}, nil
}

func (n *node) listSandboxStats(f *cri.PodSandboxStatsFilter) []*cri.PodSandboxStats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return collect(n.sandboxes.where(func(sb *sandbox) bool {
		return (f.GetId() == "" || f.GetId() == sb.id) && labelled(sb.config.GetLabels(), f.GetLabelSelector())
	}), n.sandboxStats)
}

func (s *runtimeService) ListPodSandboxStats(_ context.Context, req *cri.ListPodSandboxStatsRequest) (*cri.ListPodSandboxStatsResponse, error) {
	return &cri.ListPodSandboxStatsResponse{Stats: s.listSandboxStats(req.GetFilter())}, nil
}

func (s *runtimeService) StreamPodSandboxStats(req *cri.StreamPodSandboxStatsRequest, stream grpc.ServerStreamingServer[cri.StreamPodSandboxStatsResponse]) error {
	return sendChunks(s.listSandboxStats(req.GetFilter()), stream, func(chunk []*cri.PodSandboxStats) *cri.StreamPodSandboxStatsResponse {
		return &cri.StreamPodSandboxStatsResponse{PodSandboxStats: chunk}
	})
}

func (s *runtimeService) ListMetricDescriptors(context.Context, *cri.ListMetricDescriptorsRequest) (*cri.ListMetricDescriptorsResponse, error) {
	return &cri.ListMetricDescriptorsResponse{Descriptors: []*cri.MetricDescriptor{
		{Name: "container_cpu_usage_seconds_total", Help: "Cumulative cpu time consumed in seconds.", LabelKeys: []string{"id", "name"}},
		{Name: "container_memory_working_set_bytes", Help: "Current working set in bytes.", LabelKeys: []string{"id", "name"}},
	}}, nil
}

func (n *node) metrics(id, name string) []*cri.Metric {
	labels := []string{id, name}
	return []*cri.Metric{
		{Name: "container_cpu_usage_seconds_total", Timestamp: now(), MetricType: cri.MetricType_COUNTER, LabelValues: labels, Value: u64(uint64(time.Since(n.started).Seconds() / 20))},
		{Name: "container_memory_working_set_bytes", Timestamp: now(), MetricType: cri.MetricType_GAUGE, LabelValues: labels, Value: u64(12 << 20)},
	}
}

func (n *node) listSandboxMetrics() []*cri.PodSandboxMetrics {
	n.mu.Lock()
	defer n.mu.Unlock()
	return collect(n.sandboxes.where(nil), func(sb *sandbox) *cri.PodSandboxMetrics {
		return &cri.PodSandboxMetrics{
			PodSandboxId: sb.id, Metrics: n.metrics(sb.id, "POD"),
			ContainerMetrics: collect(n.containersOf(sb.id), func(c *container) *cri.ContainerMetrics {
				return &cri.ContainerMetrics{ContainerId: c.id, Metrics: n.metrics(c.id, c.config.GetMetadata().GetName())}
			}),
		}
	})
}

func (s *runtimeService) ListPodSandboxMetrics(context.Context, *cri.ListPodSandboxMetricsRequest) (*cri.ListPodSandboxMetricsResponse, error) {
	return &cri.ListPodSandboxMetricsResponse{PodMetrics: s.listSandboxMetrics()}, nil
}

func (s *runtimeService) StreamPodSandboxMetrics(_ *cri.StreamPodSandboxMetricsRequest, stream grpc.ServerStreamingServer[cri.StreamPodSandboxMetricsResponse]) error {
	return sendChunks(s.listSandboxMetrics(), stream, func(chunk []*cri.PodSandboxMetrics) *cri.StreamPodSandboxMetricsResponse {
		return &cri.StreamPodSandboxMetricsResponse{PodSandboxMetrics: chunk}
	})
}
