package schema

// podResources is k8s.io/kubelet/pkg/apis/podresources/v1: the kubelet tells
// agents on the node which pod has which devices.
func podResources() api {
	return api{
		name: "podresources", module: "k8s.io/kubelet",
		services: []string{"v1.PodResourcesLister"},
		shown: table{
			"v1.ListPodResourcesResponse":     {"pod_resources"},
			"v1.GetPodResourcesRequest":       {"pod_namespace", "pod_name"},
			"v1.GetPodResourcesResponse":      {"pod_resources"},
			"v1.AllocatableResourcesResponse": {"devices", "memory", "cpu_ids"},

			"v1.PodResources":       {"namespace", "name", "containers", "memory", "cpu_ids"},
			"v1.ContainerResources": {"name", "devices", "dynamic_resources", "memory", "cpu_ids"},
			"v1.ContainerDevices":   {"resource_name", "device_ids", "topology"},
			"v1.ContainerMemory":    {"memory_type", "size", "topology"},
			"v1.TopologyInfo":       {"nodes"},
			"v1.NUMANode":           {"ID"},
			"v1.DynamicResource":    {"claim_namespace", "claim_name", "claim_resources"},
			"v1.ClaimResource":      {"driver_name", "pool_name", "device_name", "share_id", "cdi_devices"},
			"v1.CDIDevice":          {"name"},
		},
		about: about{
			"v1.PodResourcesLister/Get": {{factPodNamespace, "request.pod_namespace"}, {factPodName, "request.pod_name"}},
		},
	}
}
