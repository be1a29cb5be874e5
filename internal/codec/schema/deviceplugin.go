package schema

// devicePlugin is the kubelet's device plugin API v1beta1
// (k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1): a plugin registers with the
// kubelet, which then watches and allocates its devices.
//
// Withheld: the environment and annotations that a plugin gives a container.
func devicePlugin() api {
	return api{
		name: "deviceplugin", module: "k8s.io/kubelet",
		services: []string{"v1beta1.Registration", "v1beta1.DevicePlugin"},
		shown: table{
			"v1beta1.RegisterRequest":     {"resource_name", "version", "endpoint", "options"},
			"v1beta1.DevicePluginOptions": {"pre_start_required", "get_preferred_allocation_available"},

			"v1beta1.ListAndWatchResponse": {"devices"},
			"v1beta1.Device":               {"ID", "health", "topology"},
			"v1beta1.TopologyInfo":         {"nodes"},
			"v1beta1.NUMANode":             {"ID"},

			"v1beta1.PreferredAllocationRequest":           {"container_requests"},
			"v1beta1.ContainerPreferredAllocationRequest":  {"allocation_size", "must_include_deviceIDs", "available_deviceIDs"},
			"v1beta1.PreferredAllocationResponse":          {"container_responses"},
			"v1beta1.ContainerPreferredAllocationResponse": {"deviceIDs"},
			"v1beta1.PreStartContainerRequest":             {"devices_ids"},

			"v1beta1.AllocateRequest":           {"container_requests"},
			"v1beta1.ContainerAllocateRequest":  {"devices_ids"},
			"v1beta1.AllocateResponse":          {"container_responses"},
			"v1beta1.ContainerAllocateResponse": {"cdi_devices", "devices", "mounts"},
			"v1beta1.CDIDevice":                 {"name"},
			"v1beta1.DeviceSpec":                {"host_path", "container_path", "permissions"},
			"v1beta1.Mount":                     {"host_path", "container_path", "read_only"},
		},
		about: about{
			"v1beta1.Registration/Register":               {{factSubject, "request.resource_name"}},
			"v1beta1.DevicePlugin/ListAndWatch":           {{factSubject, "response.devices.ID"}},
			"v1beta1.DevicePlugin/GetPreferredAllocation": {{factSubject, "response.container_responses.deviceIDs"}},
			"v1beta1.DevicePlugin/Allocate":               {{factSubject, "request.container_requests.devices_ids"}},
			"v1beta1.DevicePlugin/PreStartContainer":      {{factSubject, "request.devices_ids"}},
		},
	}
}
