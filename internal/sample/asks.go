package sample

import "github.com/grpc-tap/grpc-tap/internal/call"

// name is a method's.
type name struct{ service, method string }

// asks are the methods that only ask. A method that is not here is taken to change
// something, a service's that nobody knows too: what is missing costs a span and
// loses none.
var asks = byName(map[string][]string{
	"runtime.v1.RuntimeService": {
		"Version", "Status", "RuntimeConfig", "ListPodSandbox", "StreamPodSandboxes", "PodSandboxStatus",
		"ListContainers", "StreamContainers", "ContainerStatus", "ContainerStats", "ListContainerStats",
		"StreamContainerStats", "PodSandboxStats", "ListPodSandboxStats", "StreamPodSandboxStats",
		"ListMetricDescriptors", "ListPodSandboxMetrics", "StreamPodSandboxMetrics", "GetContainerEvents",
		"ExecSync", // a probe, but for a container's hook
	},
	"runtime.v1.ImageService": {"ListImages", "StreamImages", "ImageStatus", "ImageFsInfo"},

	"csi.v1.Identity": {"GetPluginInfo", "GetPluginCapabilities", "Probe"},
	"csi.v1.Controller": {
		"ValidateVolumeCapabilities", "ListVolumes", "ControllerListVolumeHealth", "ControllerGetVolumeHealth",
		"GetCapacity", "ControllerGetCapabilities", "ListSnapshots", "GetSnapshot", "ControllerGetVolume",
	},
	"csi.v1.GroupController":  {"GroupControllerGetCapabilities", "GetVolumeGroupSnapshot"},
	"csi.v1.SnapshotMetadata": {"GetMetadataAllocated", "GetMetadataDelta"},
	"csi.v1.Node":             {"NodeGetVolumeStats", "NodeGetVolumeHealth", "NodeGetStorageHealth", "NodeGetCapabilities", "NodeGetInfo"},

	"v1beta1.DevicePlugin":            {"GetDevicePluginOptions", "ListAndWatch", "GetPreferredAllocation"},
	"v1.DRAResourceHealth":            {"NodeWatchResources"},
	"v1.PodResourcesLister":           {"List", "GetAllocatableResources", "Get"},
	"pluginregistration.Registration": {"GetInfo"},
	"v2.KeyManagementService":         {"Status"},
	"grpc.health.v1.Health":           {"Check", "Watch"},

	"containerd.services.containers.v1.Containers":       {"Get", "List", "ListStream"},
	"containerd.services.content.v1.Content":             {"Info", "List", "Read", "Status", "ListStatuses"},
	"containerd.services.events.v1.Events":               {"Subscribe"},
	"containerd.services.images.v1.Images":               {"Get", "List"},
	"containerd.services.introspection.v1.Introspection": {"Plugins", "Server", "PluginInfo"},
	"containerd.services.leases.v1.Leases":               {"List", "ListResources"},
	"containerd.services.mounts.v1.Mounts":               {"Info", "List"},
	"containerd.services.namespaces.v1.Namespaces":       {"Get", "List"},
	"containerd.services.sandbox.v1.Controller":          {"Platform", "Wait", "Status", "Metrics"},
	"containerd.services.sandbox.v1.Store":               {"List", "Get"},
	"containerd.services.snapshots.v1.Snapshots":         {"Mounts", "Stat", "List", "Usage"},
	"containerd.services.tasks.v1.Tasks":                 {"Get", "List", "ListPids", "Metrics", "Wait"},
	"containerd.services.version.v1.Version":             {"Version"},

	"etcdserverpb.KV":          {"Range", "RangeStream"},
	"etcdserverpb.Watch":       {"Watch"},
	"etcdserverpb.Lease":       {"LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"},
	"etcdserverpb.Cluster":     {"MemberList"},
	"etcdserverpb.Maintenance": {"Status", "Hash", "HashKV"},
	"etcdserverpb.Auth":        {"AuthStatus", "UserGet", "UserList", "RoleGet", "RoleList"},
})

func byName(all map[string][]string) map[name]bool {
	m := map[name]bool{}
	for service, methods := range all {
		for _, method := range methods {
			m[name{service, method}] = true
		}
	}
	return m
}

// badExit: r is an ExecSync whose command failed, or may have: its exit code was
// not seen.
func badExit(r *call.Record) bool {
	return r.Method == "ExecSync" && r.Service == "runtime.v1.RuntimeService" && (r.ExitCode == nil || *r.ExitCode != 0)
}

// publishes: r publishes a volume, for the first time or, as the kubelet does
// each minute where a driver wants it, again.
func publishes(r *call.Record) bool {
	return r.Method == "NodePublishVolume" && r.Service == "csi.v1.Node"
}
