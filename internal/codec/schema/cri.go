package schema

// cri is CRI v1 (k8s.io/cri-api/pkg/apis/runtime/v1).
func cri() api {
	return api{
		name: "cri", module: "k8s.io/cri-api",
		services: []string{"runtime.v1.RuntimeService", "runtime.v1.ImageService"},
		shown:    criShown(),
		about:    criAbout(),
		listings: criListings(),
	}
}

// What CRI v1 (k8s.io/cri-api/pkg/apis/runtime/v1) may show, and which pod and
// container its calls are about. How to read and change it: see table.
//
// Withheld, though the API marks only four fields as secret: env, command,
// args and ExecSync's cmd (passwords are passed there); annotations and labels
// but those of Kubernetes (anyone writes anything there); stdout and stderr;
// exec, attach and port-forward URLs (each holds a token); the verbose info
// maps (containerd puts the whole OCI spec there, env included); all of
// AuthConfig; free text such as ContainerStatus.message. The Windows halves
// are left out because this tool taps Unix sockets.

// podLabels are the labels by which the kubelet names a pod and its container.
const podLabels = "[io.kubernetes.pod.namespace io.kubernetes.pod.name io.kubernetes.pod.uid io.kubernetes.container.name]"

func criShown() table {
	return table{
		// RuntimeService: pod sandboxes.
		"runtime.v1.RunPodSandboxRequest":             {"runtime_handler", "config"},
		"runtime.v1.RunPodSandboxResponse":            {"pod_sandbox_id"},
		"runtime.v1.StopPodSandboxRequest":            {"pod_sandbox_id"},
		"runtime.v1.RemovePodSandboxRequest":          {"pod_sandbox_id"},
		"runtime.v1.PodSandboxStatusRequest":          {"pod_sandbox_id", "verbose"},
		"runtime.v1.PodSandboxStatusResponse":         {"status", "timestamp", "containers_statuses"},
		"runtime.v1.ListPodSandboxRequest":            {"filter"},
		"runtime.v1.ListPodSandboxResponse":           {"items"},
		"runtime.v1.StreamPodSandboxesRequest":        {"filter"},
		"runtime.v1.StreamPodSandboxesResponse":       {"pod_sandboxes"},
		"runtime.v1.UpdatePodSandboxResourcesRequest": {"pod_sandbox_id", "resources", "overhead"},

		"runtime.v1.PodSandboxConfig":   {"metadata", "hostname", "log_directory", "port_mappings", "linux", "labels" + podLabels},
		"runtime.v1.PodSandboxMetadata": {"namespace", "name", "uid", "attempt"},
		"runtime.v1.PodSandbox":         {"id", "metadata", "state", "created_at", "runtime_handler", "labels" + podLabels},
		"runtime.v1.PodSandboxStatus": {"id", "metadata", "state", "created_at", "network", "runtime_handler", "linux",
			"labels" + podLabels},
		"runtime.v1.PodSandboxFilter":        {"id", "state", "label_selector" + podLabels},
		"runtime.v1.PodSandboxStateValue":    {"state"},
		"runtime.v1.PodSandboxNetworkStatus": {"ip", "additional_ips"},
		"runtime.v1.PodIP":                   {"ip"},
		"runtime.v1.PortMapping":             {"protocol", "container_port", "host_port", "host_ip"},
		"runtime.v1.LinuxPodSandboxConfig":   {"cgroup_parent", "security_context", "resources", "overhead"},
		"runtime.v1.LinuxPodSandboxStatus":   {"namespaces"},
		"runtime.v1.Namespace":               {"options"},
		"runtime.v1.NamespaceOption":         {"network", "pid", "ipc", "target_id", "userns_options"},
		"runtime.v1.UserNamespace":           {"mode", "uids", "gids"},
		"runtime.v1.IDMapping":               {"host_id", "container_id", "length"},
		"runtime.v1.LinuxSandboxSecurityContext": {"privileged", "run_as_user", "run_as_group", "readonly_rootfs",
			"supplemental_groups", "supplemental_groups_policy", "namespace_options", "selinux_options", "seccomp", "apparmor"},

		// RuntimeService: containers.
		"runtime.v1.CreateContainerRequest":          {"pod_sandbox_id", "config", "sandbox_config"},
		"runtime.v1.CreateContainerResponse":         {"container_id"},
		"runtime.v1.StartContainerRequest":           {"container_id"},
		"runtime.v1.StopContainerRequest":            {"container_id", "timeout"},
		"runtime.v1.RemoveContainerRequest":          {"container_id"},
		"runtime.v1.ContainerStatusRequest":          {"container_id", "verbose"},
		"runtime.v1.ContainerStatusResponse":         {"status"},
		"runtime.v1.ListContainersRequest":           {"filter"},
		"runtime.v1.ListContainersResponse":          {"containers"},
		"runtime.v1.StreamContainersRequest":         {"filter"},
		"runtime.v1.StreamContainersResponse":        {"containers"},
		"runtime.v1.UpdateContainerResourcesRequest": {"container_id", "linux"},
		"runtime.v1.ReopenContainerLogRequest":       {"container_id"},
		"runtime.v1.CheckpointContainerRequest":      {"container_id", "location", "timeout"},
		"runtime.v1.CheckpointPodRequest":            {"pod_sandbox_id", "output_path", "container_ids"},
		"runtime.v1.RestorePodRequest":               {"checkpoint_path", "runtime_handler", "config", "container_configs"},
		"runtime.v1.RestorePodResponse":              {"pod_sandbox_id", "restored_containers"},
		"runtime.v1.RestoredContainer":               {"name", "container_id"},

		"runtime.v1.ContainerConfig": {"metadata", "image", "log_path", "stdin", "stdin_once", "tty", "stop_signal",
			"linux", "mounts", "devices", "CDI_devices", "labels" + podLabels},
		"runtime.v1.ContainerMetadata": {"name", "attempt"},
		"runtime.v1.Container": {"id", "pod_sandbox_id", "metadata", "state", "created_at", "image", "image_ref", "image_id",
			"labels" + podLabels},
		"runtime.v1.ContainerStatus": {"id", "metadata", "state", "exit_code", "reason", "message" + freeText, "created_at", "started_at", "finished_at",
			"image", "image_ref", "image_id", "log_path", "stop_signal", "user", "resources", "labels" + podLabels, "mounts"},
		"runtime.v1.ContainerFilter":      {"id", "pod_sandbox_id", "state", "label_selector" + podLabels},
		"runtime.v1.ContainerStateValue":  {"state"},
		"runtime.v1.ContainerUser":        {"linux"},
		"runtime.v1.LinuxContainerUser":   {"uid", "gid", "supplemental_groups"},
		"runtime.v1.ContainerResources":   {"linux"},
		"runtime.v1.LinuxContainerConfig": {"resources", "security_context"},
		"runtime.v1.LinuxContainerResources": {"cpu_period", "cpu_quota", "cpu_shares", "memory_limit_in_bytes",
			"memory_swap_limit_in_bytes", "oom_score_adj", "cpuset_cpus", "cpuset_mems", "hugepage_limits",
			"unified[memory.min memory.low memory.high memory.max memory.oom.group]"},
		"runtime.v1.HugepageLimit": {"page_size", "limit"},
		"runtime.v1.LinuxContainerSecurityContext": {"privileged", "run_as_user", "run_as_group", "readonly_rootfs",
			"no_new_privs", "supplemental_groups", "supplemental_groups_policy", "capabilities", "namespace_options",
			"selinux_options", "seccomp", "apparmor"},
		"runtime.v1.Capability":      {"add_capabilities", "drop_capabilities", "add_ambient_capabilities"},
		"runtime.v1.SELinuxOption":   {"user", "role", "type", "level"},
		"runtime.v1.SecurityProfile": {"profile_type", "localhost_ref"},
		"runtime.v1.Mount": {"container_path", "host_path", "readonly", "recursive_read_only", "propagation",
			"selinux_relabel", "image", "image_sub_path", "uidMappings", "gidMappings"},
		"runtime.v1.Device":    {"container_path", "host_path", "permissions"},
		"runtime.v1.CDIDevice": {"name"},

		// RuntimeService: exec, attach, port-forward. The responses but ExecSync's
		// exit code are a URL with a token, or what the command printed.
		"runtime.v1.ExecSyncRequest":    {"container_id", "timeout"},
		"runtime.v1.ExecSyncResponse":   {"exit_code"},
		"runtime.v1.ExecRequest":        {"container_id", "tty", "stdin", "stdout", "stderr"},
		"runtime.v1.AttachRequest":      {"container_id", "tty", "stdin", "stdout", "stderr"},
		"runtime.v1.PortForwardRequest": {"pod_sandbox_id", "port"},

		// RuntimeService: the runtime itself, and events.
		"runtime.v1.VersionRequest":             {"version"},
		"runtime.v1.VersionResponse":            {"runtime_name", "runtime_version", "runtime_api_version", "version"},
		"runtime.v1.StatusRequest":              {"verbose"},
		"runtime.v1.StatusResponse":             {"status", "features", "runtime_handlers"},
		"runtime.v1.RuntimeStatus":              {"conditions"},
		"runtime.v1.RuntimeCondition":           {"type", "status", "reason", "message" + freeText},
		"runtime.v1.RuntimeHandler":             {"name", "features"},
		"runtime.v1.RuntimeHandlerFeatures":     {"recursive_read_only_mounts", "user_namespaces"},
		"runtime.v1.RuntimeFeatures":            {"supplemental_groups_policy", "user_namespaces_host_network", "mount_options"},
		"runtime.v1.RuntimeConfigResponse":      {"linux"},
		"runtime.v1.LinuxRuntimeConfiguration":  {"cgroup_driver"},
		"runtime.v1.UpdateRuntimeConfigRequest": {"runtime_config"},
		"runtime.v1.RuntimeConfig":              {"network_config"},
		"runtime.v1.NetworkConfig":              {"pod_cidr"},
		"runtime.v1.ContainerEventResponse": {"container_event_type", "container_id", "created_at", "pod_sandbox_status",
			"containers_statuses"},

		// RuntimeService: stats and metrics. A metric's label values are whatever
		// the runtime chose, so only its number shows.
		"runtime.v1.ContainerStatsRequest":           {"container_id"},
		"runtime.v1.ContainerStatsResponse":          {"stats"},
		"runtime.v1.ListContainerStatsRequest":       {"filter"},
		"runtime.v1.ListContainerStatsResponse":      {"stats"},
		"runtime.v1.StreamContainerStatsRequest":     {"filter"},
		"runtime.v1.StreamContainerStatsResponse":    {"container_stats"},
		"runtime.v1.PodSandboxStatsRequest":          {"pod_sandbox_id"},
		"runtime.v1.PodSandboxStatsResponse":         {"stats"},
		"runtime.v1.ListPodSandboxStatsRequest":      {"filter"},
		"runtime.v1.ListPodSandboxStatsResponse":     {"stats"},
		"runtime.v1.StreamPodSandboxStatsRequest":    {"filter"},
		"runtime.v1.StreamPodSandboxStatsResponse":   {"pod_sandbox_stats"},
		"runtime.v1.ListMetricDescriptorsResponse":   {"descriptors"},
		"runtime.v1.ListPodSandboxMetricsResponse":   {"pod_metrics"},
		"runtime.v1.StreamPodSandboxMetricsResponse": {"pod_sandbox_metrics"},

		"runtime.v1.ContainerStatsFilter":  {"id", "pod_sandbox_id", "label_selector" + podLabels},
		"runtime.v1.PodSandboxStatsFilter": {"id", "label_selector" + podLabels},
		"runtime.v1.ContainerStats":        {"attributes", "cpu", "memory", "swap", "io", "writable_layer"},
		"runtime.v1.ContainerAttributes":   {"id", "metadata", "labels" + podLabels},
		"runtime.v1.PodSandboxStats":       {"attributes", "linux"},
		"runtime.v1.PodSandboxAttributes":  {"id", "metadata", "labels" + podLabels},
		"runtime.v1.LinuxPodSandboxStats":  {"cpu", "memory", "process", "io", "network", "containers"},
		"runtime.v1.CpuUsage":              {"timestamp", "usage_core_nano_seconds", "usage_nano_cores", "psi"},
		"runtime.v1.MemoryUsage": {"timestamp", "working_set_bytes", "available_bytes", "usage_bytes", "rss_bytes", "page_faults",
			"major_page_faults", "psi"},
		"runtime.v1.SwapUsage":             {"timestamp", "swap_available_bytes", "swap_usage_bytes"},
		"runtime.v1.IoUsage":               {"timestamp", "psi"},
		"runtime.v1.PsiStats":              {"Full", "Some"},
		"runtime.v1.PsiData":               {"Total", "Avg10", "Avg60", "Avg300"},
		"runtime.v1.ProcessUsage":          {"timestamp", "process_count"},
		"runtime.v1.NetworkUsage":          {"timestamp", "default_interface", "interfaces"},
		"runtime.v1.NetworkInterfaceUsage": {"name", "rx_bytes", "rx_errors", "tx_bytes", "tx_errors"},
		"runtime.v1.MetricDescriptor":      {"name", "label_keys"},
		"runtime.v1.PodSandboxMetrics":     {"pod_sandbox_id", "metrics", "container_metrics"},
		"runtime.v1.ContainerMetrics":      {"container_id", "metrics"},
		"runtime.v1.Metric":                {"name", "metric_type", "value", "timestamp"},

		// ImageService.
		"runtime.v1.ListImagesRequest":    {"filter"},
		"runtime.v1.ListImagesResponse":   {"images"},
		"runtime.v1.StreamImagesRequest":  {"filter"},
		"runtime.v1.StreamImagesResponse": {"images"},
		"runtime.v1.ImageStatusRequest":   {"image", "verbose"},
		"runtime.v1.ImageStatusResponse":  {"image"},
		"runtime.v1.PullImageRequest":     {"image", "sandbox_config"},
		"runtime.v1.PullImageResponse":    {"image_ref"},
		"runtime.v1.RemoveImageRequest":   {"image"},
		"runtime.v1.ImageFsInfoResponse":  {"image_filesystems", "container_filesystems"},
		"runtime.v1.ImageFilter":          {"image"},
		"runtime.v1.ImageSpec":            {"image", "user_specified_image", "image_ref", "runtime_handler"},
		"runtime.v1.Image":                {"id", "repo_tags", "repo_digests", "size", "pinned", "uid", "spec"},
		"runtime.v1.FilesystemUsage":      {"timestamp", "fs_id", "used_bytes", "inodes_used"},
		"runtime.v1.FilesystemIdentifier": {"mountpoint"},

		"runtime.v1.Int64Value":  {"value"},
		"runtime.v1.UInt64Value": {"value"},
	}
}

// podMetadata reads a pod from a PodSandboxMetadata.
func podMetadata(path string) sources {
	return sources{{factPodNamespace, path + ".namespace"}, {factPodName, path + ".name"}, {factPodUID, path + ".uid"}}
}

// podFromLabels reads a pod from the kubelet's labels on what is its.
func podFromLabels(path string) sources {
	return sources{{factPodNamespace, path + "[io.kubernetes.pod.namespace]"}, {factPodName, path + "[io.kubernetes.pod.name]"},
		{factPodUID, path + "[io.kubernetes.pod.uid]"}}
}

// criListings are the lists, streams, statuses and events that tell of pods and
// containers which the call is not about.
func criListings() listings {
	sandbox := with(podMetadata("metadata"), sources{{factSandboxID, "id"}})
	ofContainer := with(podFromLabels("labels"), sources{{factContainerID, "id"}, {factContainerName, "metadata.name"},
		{factImage, "image.image"}, {factImage, "image.user_specified_image"}})
	container := with(ofContainer, sources{{factSandboxID, "pod_sandbox_id"}})
	sandboxStats := with(podMetadata("attributes.metadata"), sources{{factSandboxID, "attributes.id"}})
	containerStats := with(podFromLabels("attributes.labels"), sources{{factContainerID, "attributes.id"}, {factContainerName, "attributes.metadata.name"}})
	restored := sources{{factContainerID, "container_id"}, {factContainerName, "name"}}
	return listings{
		"runtime.v1.RuntimeService/ListPodSandbox":        {"items": sandbox},
		"runtime.v1.RuntimeService/StreamPodSandboxes":    {"pod_sandboxes": sandbox},
		"runtime.v1.RuntimeService/PodSandboxStatus":      {"containers_statuses": ofContainer},
		"runtime.v1.RuntimeService/ListContainers":        {"containers": container},
		"runtime.v1.RuntimeService/StreamContainers":      {"containers": container},
		"runtime.v1.RuntimeService/GetContainerEvents":    {"pod_sandbox_status": sandbox, "containers_statuses": ofContainer},
		"runtime.v1.RuntimeService/ListContainerStats":    {"stats": containerStats},
		"runtime.v1.RuntimeService/StreamContainerStats":  {"container_stats": containerStats},
		"runtime.v1.RuntimeService/ListPodSandboxStats":   {"stats": sandboxStats},
		"runtime.v1.RuntimeService/StreamPodSandboxStats": {"pod_sandbox_stats": sandboxStats},
		"runtime.v1.RuntimeService/RestorePod":            {"restored_containers": restored},
	}
}

// criAbout leaves out GetContainerEvents and the responses of lists: they tell
// of many pods, and a call is about one.
func criAbout() about {
	byContainer := sources{{factContainerID, "request.container_id"}}
	bySandbox := sources{{factSandboxID, "request.pod_sandbox_id"}}
	return about{
		"runtime.v1.RuntimeService/Version": {{factServerName, "response.runtime_name"}},

		"runtime.v1.RuntimeService/RunPodSandbox": with(podMetadata("request.config.metadata"),
			sources{{factSandboxID, "response.pod_sandbox_id"}}),
		"runtime.v1.RuntimeService/StopPodSandbox":   bySandbox,
		"runtime.v1.RuntimeService/RemovePodSandbox": bySandbox,
		"runtime.v1.RuntimeService/PodSandboxStatus": with(bySandbox, podMetadata("response.status.metadata"),
			sources{{factSandboxID, "response.status.id"}}),
		"runtime.v1.RuntimeService/PodSandboxStats":           with(bySandbox, podMetadata("response.stats.attributes.metadata")),
		"runtime.v1.RuntimeService/PortForward":               bySandbox,
		"runtime.v1.RuntimeService/UpdatePodSandboxResources": bySandbox,
		"runtime.v1.RuntimeService/CheckpointPod":             bySandbox,
		"runtime.v1.RuntimeService/RestorePod": with(podMetadata("request.config.metadata"),
			sources{{factSandboxID, "response.pod_sandbox_id"}}),

		"runtime.v1.RuntimeService/CreateContainer": with(bySandbox, podMetadata("request.sandbox_config.metadata"), sources{
			{factContainerName, "request.config.metadata.name"},
			{factImage, "request.config.image.image"},
			{factImage, "request.config.image.user_specified_image"},
			{factContainerID, "response.container_id"},
		}),
		"runtime.v1.RuntimeService/StartContainer":           byContainer,
		"runtime.v1.RuntimeService/StopContainer":            byContainer,
		"runtime.v1.RuntimeService/RemoveContainer":          byContainer,
		"runtime.v1.RuntimeService/UpdateContainerResources": byContainer,
		"runtime.v1.RuntimeService/ReopenContainerLog":       byContainer,
		"runtime.v1.RuntimeService/CheckpointContainer":      byContainer,
		"runtime.v1.RuntimeService/ExecSync":                 byContainer,
		"runtime.v1.RuntimeService/Exec":                     byContainer,
		"runtime.v1.RuntimeService/Attach":                   byContainer,
		"runtime.v1.RuntimeService/ContainerStatus": with(byContainer, podFromLabels("response.status.labels"), sources{
			{factContainerID, "response.status.id"},
			{factContainerName, "response.status.metadata.name"},
			{factImage, "response.status.image.image"},
			{factImage, "response.status.image.user_specified_image"},
		}),
		"runtime.v1.RuntimeService/ContainerStats": with(byContainer, podFromLabels("response.stats.attributes.labels"),
			sources{{factContainerName, "response.stats.attributes.metadata.name"}}),

		// A list may be narrowed to one pod or container.
		"runtime.v1.RuntimeService/ListPodSandbox":     with(podFromLabels("request.filter.label_selector"), sources{{factSandboxID, "request.filter.id"}}),
		"runtime.v1.RuntimeService/StreamPodSandboxes": with(podFromLabels("request.filter.label_selector"), sources{{factSandboxID, "request.filter.id"}}),
		"runtime.v1.RuntimeService/ListContainers": with(podFromLabels("request.filter.label_selector"),
			sources{{factContainerID, "request.filter.id"}, {factSandboxID, "request.filter.pod_sandbox_id"}}),
		"runtime.v1.RuntimeService/StreamContainers": with(podFromLabels("request.filter.label_selector"),
			sources{{factContainerID, "request.filter.id"}, {factSandboxID, "request.filter.pod_sandbox_id"}}),

		"runtime.v1.ImageService/PullImage": with(podMetadata("request.sandbox_config.metadata"),
			sources{{factImage, "request.image.image"}, {factImage, "request.image.user_specified_image"}}),
		"runtime.v1.ImageService/ImageStatus": {{factImage, "request.image.image"}},
		"runtime.v1.ImageService/RemoveImage": {{factImage, "request.image.image"}},
	}
}
