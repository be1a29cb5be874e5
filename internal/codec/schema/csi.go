package schema

// csiAPI is CSI v1 (github.com/container-storage-interface/spec).
func csiAPI() api {
	return api{
		name: "csi", module: "github.com/container-storage-interface/spec",
		services: []string{"csi.v1.Identity", "csi.v1.Controller", "csi.v1.GroupController", "csi.v1.SnapshotMetadata", "csi.v1.Node"},
		shown:    csiShown(),
		about:    csiAbout(),
	}
}

// What CSI v1 (github.com/container-storage-interface/spec) may show, and
// which volume and pod its calls are about. How to read and change it: see
// table.
//
// Withheld, beyond the fields that csi_secret marks: every key of volume_context
// and parameters but the well-known ones (drivers define the rest, and
// csi.storage.k8s.io/serviceAccount.tokens holds live tokens); publish_context,
// mutable_parameters and GetPluginInfo's manifest; mount_flags (CIFS takes
// password= there); list tokens (opaque, the driver's); free-text messages.

const (
	// contextKeys is what Kubernetes itself adds to a volume's context.
	contextKeys = "[csi.storage.k8s.io/pod.namespace csi.storage.k8s.io/pod.name csi.storage.k8s.io/pod.uid" +
		" csi.storage.k8s.io/ephemeral" +
		" csi.storage.k8s.io/pv/name csi.storage.k8s.io/pvc/name csi.storage.k8s.io/pvc/namespace]"
	// volumeKeys is what external-provisioner adds to CreateVolume's parameters.
	volumeKeys = "[csi.storage.k8s.io/pv/name csi.storage.k8s.io/pvc/name csi.storage.k8s.io/pvc/namespace]"
	// snapshotKeys is what external-snapshotter adds to CreateSnapshot's.
	snapshotKeys = "[csi.storage.k8s.io/volumesnapshot/name csi.storage.k8s.io/volumesnapshot/namespace" +
		" csi.storage.k8s.io/volumesnapshotcontent/name]"
	groupSnapshotKeys = "[csi.storage.k8s.io/volumegroupsnapshot/name csi.storage.k8s.io/volumegroupsnapshot/namespace" +
		" csi.storage.k8s.io/volumegroupsnapshotcontent/name]"
)

func csiShown() table {
	return table{
		// Identity.
		"csi.v1.GetPluginInfoResponse":            {"name", "vendor_version"},
		"csi.v1.GetPluginCapabilitiesResponse":    {"capabilities"},
		"csi.v1.PluginCapability":                 {"service", "volume_expansion"},
		"csi.v1.PluginCapability.Service":         {"type"},
		"csi.v1.PluginCapability.VolumeExpansion": {"type"},
		"csi.v1.ProbeResponse":                    {"ready"},

		// What several services share.
		"csi.v1.Volume":                             {"volume_id", "capacity_bytes", "content_source", "accessible_topology", "volume_context" + contextKeys},
		"csi.v1.VolumeContentSource":                {"snapshot", "volume"},
		"csi.v1.VolumeContentSource.SnapshotSource": {"snapshot_id"},
		"csi.v1.VolumeContentSource.VolumeSource":   {"volume_id"},
		"csi.v1.VolumeCapability":                   {"access_mode", "mount", "block"},
		"csi.v1.VolumeCapability.AccessMode":        {"mode"},
		"csi.v1.VolumeCapability.MountVolume":       {"fs_type", "volume_mount_group"},
		"csi.v1.VolumeCapability.BlockVolume":       {},
		"csi.v1.CapacityRange":                      {"required_bytes", "limit_bytes"},
		"csi.v1.TopologyRequirement":                {"requisite", "preferred"},
		"csi.v1.Topology":                           {"segments" + anyKey}, // zones and nodes, by drivers' own keys
		"csi.v1.VolumeHealth":                       {"volume_id", "health_statuses"},
		"csi.v1.VolumeHealth.VolumeHealthEntry":     {"status", "reason", "message" + freeText},
		"csi.v1.Snapshot": {"snapshot_id", "source_volume_id", "group_snapshot_id", "ready_to_use", "size_bytes",
			"creation_time", "accessible_topology"},
		"google.protobuf.BoolValue":  {"value"},
		"google.protobuf.Int64Value": {"value"},
		"google.protobuf.Timestamp":  {"seconds", "nanos"},

		// Controller.
		"csi.v1.CreateVolumeRequest": {"name", "capacity_range", "volume_capabilities", "parameters" + volumeKeys,
			"volume_content_source", "accessibility_requirements"},
		"csi.v1.CreateVolumeResponse":               {"volume"},
		"csi.v1.DeleteVolumeRequest":                {"volume_id"},
		"csi.v1.ControllerPublishVolumeRequest":     {"volume_id", "node_id", "readonly", "volume_capability", "volume_context" + contextKeys},
		"csi.v1.ControllerUnpublishVolumeRequest":   {"volume_id", "node_id"},
		"csi.v1.ValidateVolumeCapabilitiesRequest":  {"volume_id", "volume_capabilities", "volume_context" + contextKeys, "parameters" + volumeKeys},
		"csi.v1.ValidateVolumeCapabilitiesResponse": {"confirmed", "message" + freeText},
		"csi.v1.ValidateVolumeCapabilitiesResponse.Confirmed": {"volume_capabilities", "volume_context" + contextKeys,
			"parameters" + volumeKeys},
		"csi.v1.ListVolumesRequest":                       {"max_entries"},
		"csi.v1.ListVolumesResponse":                      {"entries"},
		"csi.v1.ListVolumesResponse.Entry":                {"volume", "status"},
		"csi.v1.ListVolumesResponse.VolumeStatus":         {"published_node_ids"},
		"csi.v1.ControllerGetVolumeRequest":               {"volume_id"},
		"csi.v1.ControllerGetVolumeResponse":              {"volume", "status"},
		"csi.v1.ControllerGetVolumeResponse.VolumeStatus": {"published_node_ids"},
		"csi.v1.ControllerListVolumeHealthRequest":        {"max_entries"},
		"csi.v1.ControllerListVolumeHealthResponse":       {"entries"},
		"csi.v1.ControllerGetVolumeHealthRequest":         {"volume_id"},
		"csi.v1.ControllerGetVolumeHealthResponse":        {"volume_health"},
		"csi.v1.ControllerExpandVolumeRequest":            {"volume_id", "capacity_range", "volume_capability"},
		"csi.v1.ControllerExpandVolumeResponse":           {"capacity_bytes", "node_expansion_required"},
		"csi.v1.ControllerModifyVolumeRequest":            {"volume_id"},
		"csi.v1.GetCapacityRequest":                       {"volume_capabilities", "parameters" + volumeKeys, "accessible_topology"},
		"csi.v1.GetCapacityResponse":                      {"available_capacity", "maximum_volume_size", "minimum_volume_size"},
		"csi.v1.ControllerGetCapabilitiesResponse":        {"capabilities"},
		"csi.v1.ControllerServiceCapability":              {"rpc"},
		"csi.v1.ControllerServiceCapability.RPC":          {"type"},
		"csi.v1.CreateSnapshotRequest": {"source_volume_id", "name", "parameters" + snapshotKeys,
			"accessibility_requirements"},
		"csi.v1.CreateSnapshotResponse":      {"snapshot"},
		"csi.v1.DeleteSnapshotRequest":       {"snapshot_id"},
		"csi.v1.ListSnapshotsRequest":        {"source_volume_id", "snapshot_id", "max_entries"},
		"csi.v1.ListSnapshotsResponse":       {"entries"},
		"csi.v1.ListSnapshotsResponse.Entry": {"snapshot"},
		"csi.v1.GetSnapshotRequest":          {"snapshot_id"},
		"csi.v1.GetSnapshotResponse":         {"snapshot"},

		// GroupController.
		"csi.v1.GroupControllerGetCapabilitiesResponse": {"capabilities"},
		"csi.v1.GroupControllerServiceCapability":       {"rpc"},
		"csi.v1.GroupControllerServiceCapability.RPC":   {"type"},
		"csi.v1.CreateVolumeGroupSnapshotRequest":       {"name", "source_volume_ids", "parameters" + groupSnapshotKeys},
		"csi.v1.CreateVolumeGroupSnapshotResponse":      {"group_snapshot"},
		"csi.v1.DeleteVolumeGroupSnapshotRequest":       {"group_snapshot_id", "snapshot_ids"},
		"csi.v1.GetVolumeGroupSnapshotRequest":          {"group_snapshot_id", "snapshot_ids"},
		"csi.v1.GetVolumeGroupSnapshotResponse":         {"group_snapshot"},
		"csi.v1.VolumeGroupSnapshot":                    {"group_snapshot_id", "ready_to_use", "creation_time", "snapshots"},

		// SnapshotMetadata.
		"csi.v1.GetMetadataAllocatedRequest":  {"snapshot_id", "starting_offset", "max_results"},
		"csi.v1.GetMetadataAllocatedResponse": {"block_metadata_type", "volume_capacity_bytes", "block_metadata"},
		"csi.v1.GetMetadataDeltaRequest":      {"base_snapshot_id", "target_snapshot_id", "starting_offset", "max_results"},
		"csi.v1.GetMetadataDeltaResponse":     {"block_metadata_type", "volume_capacity_bytes", "block_metadata"},
		"csi.v1.BlockMetadata":                {"byte_offset", "size_bytes"},

		// Node.
		"csi.v1.NodeStageVolumeRequest": {"volume_id", "staging_target_path", "volume_capability", "volume_context" + contextKeys},
		"csi.v1.NodePublishVolumeRequest": {"volume_id", "target_path", "staging_target_path", "readonly", "volume_capability",
			"volume_context" + contextKeys},
		"csi.v1.NodeUnstageVolumeRequest":                          {"volume_id", "staging_target_path"},
		"csi.v1.NodeUnpublishVolumeRequest":                        {"volume_id", "target_path"},
		"csi.v1.NodeGetVolumeStatsRequest":                         {"volume_id", "volume_path", "staging_target_path"},
		"csi.v1.NodeGetVolumeStatsResponse":                        {"usage"},
		"csi.v1.VolumeUsage":                                       {"unit", "available", "total", "used"},
		"csi.v1.NodeGetVolumeHealthRequest":                        {"volume_id", "volume_publish_path", "staging_target_path"},
		"csi.v1.NodeGetVolumeHealthResponse":                       {"volume_health"},
		"csi.v1.NodeGetStorageHealthResponse":                      {"backend_health"},
		"csi.v1.NodeGetStorageHealthResponse.StorageBackendHealth": {"status", "reason", "message" + freeText, "volume_capability"},
		"csi.v1.NodeExpandVolumeRequest": {"volume_id", "volume_path", "staging_target_path", "capacity_range",
			"volume_capability"},
		"csi.v1.NodeExpandVolumeResponse":    {"capacity_bytes"},
		"csi.v1.NodeGetCapabilitiesResponse": {"capabilities"},
		"csi.v1.NodeServiceCapability":       {"rpc"},
		"csi.v1.NodeServiceCapability.RPC":   {"type"},
		"csi.v1.NodeGetInfoResponse":         {"node_id", "max_volumes_per_node", "accessible_topology"},
	}
}

func csiAbout() about {
	byVolume := sources{{factVolumeID, "request.volume_id"}}
	staged := sources{{factStagingPath, "request.staging_target_path"}}
	// inContext is what a volume's context says about its pod and claim.
	inContext := sources{
		{factPodNamespace, "request.volume_context[csi.storage.k8s.io/pod.namespace]"},
		{factPodName, "request.volume_context[csi.storage.k8s.io/pod.name]"},
		{factPodUID, "request.volume_context[csi.storage.k8s.io/pod.uid]"},
		{factPV, "request.volume_context[csi.storage.k8s.io/pv/name]"},
		{factPVC, "request.volume_context[csi.storage.k8s.io/pvc/name]"},
	}
	return about{
		"csi.v1.Identity/GetPluginInfo": {{factServerName, "response.name"}, {factDriver, "response.name"}},

		"csi.v1.Controller/CreateVolume": {
			{factPV, "request.parameters[csi.storage.k8s.io/pv/name]"},
			{factPVC, "request.parameters[csi.storage.k8s.io/pvc/name]"},
			{factVolumeID, "response.volume.volume_id"},
		},
		"csi.v1.Controller/DeleteVolume":               byVolume,
		"csi.v1.Controller/ControllerPublishVolume":    with(byVolume, inContext),
		"csi.v1.Controller/ControllerUnpublishVolume":  byVolume,
		"csi.v1.Controller/ValidateVolumeCapabilities": with(byVolume, inContext),
		"csi.v1.Controller/ControllerGetVolume":        byVolume,
		"csi.v1.Controller/ControllerGetVolumeHealth":  byVolume,
		"csi.v1.Controller/ControllerExpandVolume":     byVolume,
		"csi.v1.Controller/ControllerModifyVolume":     byVolume,
		"csi.v1.Controller/CreateSnapshot":             {{factVolumeID, "request.source_volume_id"}},

		"csi.v1.Node/NodeStageVolume":     with(byVolume, staged, inContext),
		"csi.v1.Node/NodeUnstageVolume":   with(byVolume, staged),
		"csi.v1.Node/NodePublishVolume":   with(byVolume, staged, inContext, sources{{factVolumePath, "request.target_path"}}),
		"csi.v1.Node/NodeUnpublishVolume": with(byVolume, sources{{factVolumePath, "request.target_path"}}),
		"csi.v1.Node/NodeGetVolumeStats":  with(byVolume, staged, sources{{factVolumePath, "request.volume_path"}}),
		"csi.v1.Node/NodeGetVolumeHealth": with(byVolume, staged, sources{{factVolumePath, "request.volume_publish_path"}}),
		"csi.v1.Node/NodeExpandVolume":    with(byVolume, staged, sources{{factVolumePath, "request.volume_path"}}),
	}
}
