package schema

// containerd is containerd's own API (github.com/containerd/containerd/api),
// which shares the CRI socket: cAdvisor, ctr and nerdctl speak it.
//
// Withheld: whatever is a google.protobuf.Any (the OCI spec, env included, runtime
// options, events), labels but those of Kubernetes, annotations, extensions, the
// options of mounts (overlay's paths, but a CIFS password too), content itself,
// filters, and what plugins export.
func containerd() api {
	return api{
		name: "containerd", module: "github.com/containerd/containerd/api",
		services: []string{
			"containerd.services.containers.v1.Containers", "containerd.services.tasks.v1.Tasks",
			"containerd.services.sandbox.v1.Store", "containerd.services.sandbox.v1.Controller",
			"containerd.services.images.v1.Images", "containerd.services.content.v1.Content",
			"containerd.services.snapshots.v1.Snapshots", "containerd.services.mounts.v1.Mounts",
			"containerd.services.diff.v1.Diff", "containerd.services.leases.v1.Leases",
			"containerd.services.namespaces.v1.Namespaces", "containerd.services.events.v1.Events",
			"containerd.services.introspection.v1.Introspection", "containerd.services.version.v1.Version",
			"containerd.services.transfer.v1.Transfer", "containerd.services.streaming.v1.Streaming",
		},
		shown: containerdShown(),
		about: containerdAbout(),
	}
}

// criLabels are the labels that containerd's CRI plugin puts on what is the
// kubelet's.
const criLabels = "[io.cri-containerd.kind io.kubernetes.pod.namespace io.kubernetes.pod.name io.kubernetes.pod.uid" +
	" io.kubernetes.container.name]"

func containerdShown() table {
	return table{
		// Containers: what is to run.
		"containerd.services.containers.v1.GetContainerRequest":     {"id"},
		"containerd.services.containers.v1.GetContainerResponse":    {"container"},
		"containerd.services.containers.v1.ListContainersResponse":  {"containers"},
		"containerd.services.containers.v1.ListContainerMessage":    {"container"},
		"containerd.services.containers.v1.CreateContainerRequest":  {"container"},
		"containerd.services.containers.v1.CreateContainerResponse": {"container"},
		"containerd.services.containers.v1.UpdateContainerRequest":  {"container", "update_mask"},
		"containerd.services.containers.v1.UpdateContainerResponse": {"container"},
		"containerd.services.containers.v1.DeleteContainerRequest":  {"id"},
		"containerd.services.containers.v1.Container": {"id", "image", "runtime", "sandbox", "snapshotter", "snapshot_key",
			"created_at", "updated_at", "labels" + criLabels},
		"containerd.services.containers.v1.Container.Runtime": {"name"},

		// Tasks: what runs.
		"containerd.services.tasks.v1.CreateTaskRequest":      {"container_id", "terminal", "runtime_path", "task_api_address", "task_api_version", "checkpoint", "rootfs"},
		"containerd.services.tasks.v1.CreateTaskResponse":     {"container_id", "pid"},
		"containerd.services.tasks.v1.StartRequest":           {"container_id", "exec_id"},
		"containerd.services.tasks.v1.StartResponse":          {"pid"},
		"containerd.services.tasks.v1.DeleteTaskRequest":      {"container_id"},
		"containerd.services.tasks.v1.DeleteResponse":         {"id", "pid", "exit_status", "exited_at"},
		"containerd.services.tasks.v1.DeleteProcessRequest":   {"container_id", "exec_id"},
		"containerd.services.tasks.v1.GetRequest":             {"container_id", "exec_id"},
		"containerd.services.tasks.v1.GetResponse":            {"process"},
		"containerd.services.tasks.v1.ListTasksResponse":      {"tasks"},
		"containerd.services.tasks.v1.KillRequest":            {"container_id", "exec_id", "signal", "all"},
		"containerd.services.tasks.v1.ExecProcessRequest":     {"container_id", "exec_id", "terminal"},
		"containerd.services.tasks.v1.ResizePtyRequest":       {"container_id", "exec_id", "width", "height"},
		"containerd.services.tasks.v1.CloseIORequest":         {"container_id", "exec_id", "stdin"},
		"containerd.services.tasks.v1.PauseTaskRequest":       {"container_id"},
		"containerd.services.tasks.v1.ResumeTaskRequest":      {"container_id"},
		"containerd.services.tasks.v1.ListPidsRequest":        {"container_id"},
		"containerd.services.tasks.v1.ListPidsResponse":       {"processes"},
		"containerd.services.tasks.v1.CheckpointTaskRequest":  {"container_id", "parent_checkpoint"},
		"containerd.services.tasks.v1.CheckpointTaskResponse": {"descriptors"},
		"containerd.services.tasks.v1.UpdateTaskRequest":      {"container_id"},
		"containerd.services.tasks.v1.MetricsResponse":        {"metrics"},
		"containerd.services.tasks.v1.WaitRequest":            {"container_id", "exec_id"},
		"containerd.services.tasks.v1.WaitResponse":           {"exit_status", "exited_at"},
		"containerd.v1.types.Process":                         {"container_id", "id", "pid", "status", "exit_status", "exited_at", "terminal"},
		"containerd.v1.types.ProcessInfo":                     {"pid"},
		"containerd.types.Metric":                             {"id", "timestamp"},

		// Sandboxes: their store, and who runs them.
		"containerd.services.sandbox.v1.StoreCreateRequest":         {"sandbox"},
		"containerd.services.sandbox.v1.StoreCreateResponse":        {"sandbox"},
		"containerd.services.sandbox.v1.StoreUpdateRequest":         {"sandbox"},
		"containerd.services.sandbox.v1.StoreUpdateResponse":        {"sandbox"},
		"containerd.services.sandbox.v1.StoreDeleteRequest":         {"sandbox_id"},
		"containerd.services.sandbox.v1.StoreListResponse":          {"list"},
		"containerd.services.sandbox.v1.StoreGetRequest":            {"sandbox_id"},
		"containerd.services.sandbox.v1.StoreGetResponse":           {"sandbox"},
		"containerd.services.sandbox.v1.ControllerCreateRequest":    {"sandbox_id", "sandboxer", "netns_path", "sandbox", "rootfs"},
		"containerd.services.sandbox.v1.ControllerCreateResponse":   {"sandbox_id"},
		"containerd.services.sandbox.v1.ControllerStartRequest":     {"sandbox_id", "sandboxer"},
		"containerd.services.sandbox.v1.ControllerStartResponse":    {"sandbox_id", "pid", "created_at", "address", "version", "labels" + criLabels},
		"containerd.services.sandbox.v1.ControllerPlatformRequest":  {"sandbox_id", "sandboxer"},
		"containerd.services.sandbox.v1.ControllerPlatformResponse": {"platform"},
		"containerd.services.sandbox.v1.ControllerStopRequest":      {"sandbox_id", "sandboxer", "timeout_secs"},
		"containerd.services.sandbox.v1.ControllerWaitRequest":      {"sandbox_id", "sandboxer"},
		"containerd.services.sandbox.v1.ControllerWaitResponse":     {"exit_status", "exited_at"},
		"containerd.services.sandbox.v1.ControllerStatusRequest":    {"sandbox_id", "sandboxer", "verbose"},
		"containerd.services.sandbox.v1.ControllerStatusResponse":   {"sandbox_id", "pid", "state", "created_at", "exited_at", "address", "version"},
		"containerd.services.sandbox.v1.ControllerShutdownRequest":  {"sandbox_id", "sandboxer"},
		"containerd.services.sandbox.v1.ControllerMetricsRequest":   {"sandbox_id", "sandboxer"},
		"containerd.services.sandbox.v1.ControllerMetricsResponse":  {"metrics"},
		"containerd.services.sandbox.v1.ControllerUpdateRequest":    {"sandbox_id", "sandboxer", "sandbox"},
		"containerd.types.Sandbox":                                  {"sandbox_id", "runtime", "sandboxer", "created_at", "updated_at", "labels" + criLabels},
		"containerd.types.Sandbox.Runtime":                          {"name"},

		// Images and content.
		"containerd.services.images.v1.GetImageRequest":       {"name"},
		"containerd.services.images.v1.GetImageResponse":      {"image"},
		"containerd.services.images.v1.CreateImageRequest":    {"image", "source_date_epoch"},
		"containerd.services.images.v1.CreateImageResponse":   {"image"},
		"containerd.services.images.v1.UpdateImageRequest":    {"image", "update_mask", "source_date_epoch"},
		"containerd.services.images.v1.UpdateImageResponse":   {"image"},
		"containerd.services.images.v1.ListImagesResponse":    {"images"},
		"containerd.services.images.v1.DeleteImageRequest":    {"name", "sync", "target"},
		"containerd.services.images.v1.Image":                 {"name", "target", "created_at", "updated_at"},
		"containerd.types.Descriptor":                         {"media_type", "digest", "size"},
		"containerd.services.content.v1.Info":                 {"digest", "size", "created_at", "updated_at"},
		"containerd.services.content.v1.InfoRequest":          {"digest"},
		"containerd.services.content.v1.InfoResponse":         {"info"},
		"containerd.services.content.v1.UpdateRequest":        {"info", "update_mask"},
		"containerd.services.content.v1.UpdateResponse":       {"info"},
		"containerd.services.content.v1.ListContentResponse":  {"info"},
		"containerd.services.content.v1.DeleteContentRequest": {"digest"},
		"containerd.services.content.v1.ReadContentRequest":   {"digest", "offset", "size"},
		"containerd.services.content.v1.ReadContentResponse":  {"offset"},
		"containerd.services.content.v1.Status":               {"ref", "offset", "total", "expected", "started_at", "updated_at"},
		"containerd.services.content.v1.StatusRequest":        {"ref"},
		"containerd.services.content.v1.StatusResponse":       {"status"},
		"containerd.services.content.v1.ListStatusesResponse": {"statuses"},
		"containerd.services.content.v1.WriteContentRequest":  {"action", "ref", "total", "expected", "offset"},
		"containerd.services.content.v1.WriteContentResponse": {"action", "offset", "total", "digest", "started_at", "updated_at"},
		"containerd.services.content.v1.AbortRequest":         {"ref"},

		// Snapshots, mounts, diffs.
		"containerd.services.snapshots.v1.PrepareSnapshotRequest":  {"snapshotter", "key", "parent"},
		"containerd.services.snapshots.v1.PrepareSnapshotResponse": {"mounts"},
		"containerd.services.snapshots.v1.ViewSnapshotRequest":     {"snapshotter", "key", "parent"},
		"containerd.services.snapshots.v1.ViewSnapshotResponse":    {"mounts"},
		"containerd.services.snapshots.v1.MountsRequest":           {"snapshotter", "key"},
		"containerd.services.snapshots.v1.MountsResponse":          {"mounts"},
		"containerd.services.snapshots.v1.RemoveSnapshotRequest":   {"snapshotter", "key"},
		"containerd.services.snapshots.v1.CommitSnapshotRequest":   {"snapshotter", "name", "key", "parent"},
		"containerd.services.snapshots.v1.StatSnapshotRequest":     {"snapshotter", "key"},
		"containerd.services.snapshots.v1.StatSnapshotResponse":    {"info"},
		"containerd.services.snapshots.v1.UpdateSnapshotRequest":   {"snapshotter", "info", "update_mask"},
		"containerd.services.snapshots.v1.UpdateSnapshotResponse":  {"info"},
		"containerd.services.snapshots.v1.ListSnapshotsRequest":    {"snapshotter"},
		"containerd.services.snapshots.v1.ListSnapshotsResponse":   {"info"},
		"containerd.services.snapshots.v1.UsageRequest":            {"snapshotter", "key"},
		"containerd.services.snapshots.v1.UsageResponse":           {"size", "inodes"},
		"containerd.services.snapshots.v1.CleanupRequest":          {"snapshotter"},
		"containerd.services.snapshots.v1.Info":                    {"name", "parent", "kind", "created_at", "updated_at"},
		"containerd.services.mounts.v1.ActivateRequest":            {"name", "temporary", "mounts"},
		"containerd.services.mounts.v1.ActivateResponse":           {"info"},
		"containerd.services.mounts.v1.DeactivateRequest":          {"name"},
		"containerd.services.mounts.v1.InfoRequest":                {"name"},
		"containerd.services.mounts.v1.InfoResponse":               {"info"},
		"containerd.services.mounts.v1.UpdateRequest":              {"info", "update_mask"},
		"containerd.services.mounts.v1.UpdateResponse":             {"info"},
		"containerd.services.mounts.v1.ListMessage":                {"info"},
		"containerd.types.ActivationInfo":                          {"name", "active", "system"},
		"containerd.types.ActiveMount":                             {"mount", "mount_point", "mounted_at"},
		"containerd.types.Mount":                                   {"type", "target"}, // a source may be a URL
		"containerd.services.diff.v1.ApplyRequest":                 {"diff", "sync_fs", "mounts"},
		"containerd.services.diff.v1.ApplyResponse":                {"applied"},
		"containerd.services.diff.v1.DiffRequest":                  {"ref", "media_type", "source_date_epoch", "left", "right"},
		"containerd.services.diff.v1.DiffResponse":                 {"diff"},

		// Leases, namespaces, events.
		"containerd.services.leases.v1.CreateRequest":               {"id"},
		"containerd.services.leases.v1.CreateResponse":              {"lease"},
		"containerd.services.leases.v1.DeleteRequest":               {"id", "sync"},
		"containerd.services.leases.v1.ListResponse":                {"leases"},
		"containerd.services.leases.v1.Lease":                       {"id", "created_at"},
		"containerd.services.leases.v1.Resource":                    {"type", "id"},
		"containerd.services.leases.v1.AddResourceRequest":          {"id", "resource"},
		"containerd.services.leases.v1.DeleteResourceRequest":       {"id", "resource"},
		"containerd.services.leases.v1.ListResourcesRequest":        {"id"},
		"containerd.services.leases.v1.ListResourcesResponse":       {"resources"},
		"containerd.services.namespaces.v1.Namespace":               {"name"},
		"containerd.services.namespaces.v1.GetNamespaceRequest":     {"name"},
		"containerd.services.namespaces.v1.GetNamespaceResponse":    {"namespace"},
		"containerd.services.namespaces.v1.ListNamespacesResponse":  {"namespaces"},
		"containerd.services.namespaces.v1.CreateNamespaceRequest":  {"namespace"},
		"containerd.services.namespaces.v1.CreateNamespaceResponse": {"namespace"},
		"containerd.services.namespaces.v1.UpdateNamespaceRequest":  {"namespace", "update_mask"},
		"containerd.services.namespaces.v1.UpdateNamespaceResponse": {"namespace"},
		"containerd.services.namespaces.v1.DeleteNamespaceRequest":  {"name"},
		"containerd.services.events.v1.PublishRequest":              {"topic"},
		"containerd.services.events.v1.ForwardRequest":              {"envelope"},
		"containerd.types.Envelope":                                 {"timestamp", "namespace", "topic"},

		// containerd itself, and transfers.
		"containerd.services.version.v1.VersionResponse":          {"version", "revision"},
		"containerd.services.introspection.v1.PluginsResponse":    {"plugins"},
		"containerd.services.introspection.v1.PluginInfoRequest":  {"type", "id"},
		"containerd.services.introspection.v1.PluginInfoResponse": {"plugin"},
		"containerd.services.introspection.v1.Plugin":             {"type", "id", "init_err" + freeText, "requires", "platforms", "capabilities"},
		"containerd.services.introspection.v1.ServerResponse":     {"uuid", "pid", "pidns", "deprecations"},
		"containerd.services.introspection.v1.DeprecationWarning": {"id", "message" + freeText, "last_occurrence"},
		"containerd.services.transfer.v1.TransferRequest":         {"options"},
		"containerd.services.transfer.v1.TransferOptions":         {"progress_stream"},
		"containerd.types.Platform":                               {"os", "architecture", "variant", "os_version", "os_features"},

		"google.rpc.Status":         {"code", "message" + freeText},
		"google.protobuf.Timestamp": {"seconds", "nanos"},
		"google.protobuf.FieldMask": {"paths"},
	}
}

func containerdAbout() about {
	byContainer := sources{{factContainerID, "request.container_id"}}
	bySandbox := sources{{factSandboxID, "request.sandbox_id"}}
	byKey := sources{{factSubject, "request.key"}}
	byName := sources{{factSubject, "request.name"}}
	byID := sources{{factSubject, "request.id"}}
	const containers, tasks = "containerd.services.containers.v1.Containers/", "containerd.services.tasks.v1.Tasks/"
	const store, controller = "containerd.services.sandbox.v1.Store/", "containerd.services.sandbox.v1.Controller/"
	const images, content = "containerd.services.images.v1.Images/", "containerd.services.content.v1.Content/"
	const snapshots, mounts = "containerd.services.snapshots.v1.Snapshots/", "containerd.services.mounts.v1.Mounts/"
	const leases, namespaces = "containerd.services.leases.v1.Leases/", "containerd.services.namespaces.v1.Namespaces/"
	a := about{
		containers + "Get": with(sources{{factContainerID, "request.id"}, {factImage, "response.container.image"},
			{factContainerName, "response.container.labels[io.kubernetes.container.name]"}}, podFromLabels("response.container.labels")),
		containers + "Create": with(sources{{factContainerID, "request.container.id"}, {factImage, "request.container.image"},
			{factContainerName, "request.container.labels[io.kubernetes.container.name]"}}, podFromLabels("request.container.labels")),
		containers + "Update": {{factContainerID, "request.container.id"}},
		containers + "Delete": {{factContainerID, "request.id"}},

		store + "Create": {{factSandboxID, "request.sandbox.sandbox_id"}},
		store + "Update": {{factSandboxID, "request.sandbox.sandbox_id"}},
		store + "Delete": bySandbox,
		store + "Get":    bySandbox,

		images + "Get":    {{factImage, "request.name"}},
		images + "Create": {{factImage, "request.image.name"}},
		images + "Update": {{factImage, "request.image.name"}},
		images + "Delete": {{factImage, "request.name"}},

		content + "Info":   {{factSubject, "request.digest"}},
		content + "Update": {{factSubject, "request.info.digest"}},
		content + "Delete": {{factSubject, "request.digest"}},
		content + "Read":   {{factSubject, "request.digest"}},
		content + "Status": {{factSubject, "request.ref"}},
		content + "Write":  {{factSubject, "request.ref"}},
		content + "Abort":  {{factSubject, "request.ref"}},

		snapshots + "Update":  {{factSubject, "request.info.name"}},
		mounts + "Update":     {{factSubject, "request.info.name"}},
		namespaces + "Create": {{factSubject, "request.namespace.name"}},
		namespaces + "Update": {{factSubject, "request.namespace.name"}},

		"containerd.services.events.v1.Events/Publish":                  {{factSubject, "request.topic"}},
		"containerd.services.events.v1.Events/Forward":                  {{factSubject, "request.envelope.topic"}},
		"containerd.services.introspection.v1.Introspection/PluginInfo": {{factSubject, "request.id"}},
	}
	each := func(service string, from sources, methods ...string) {
		for _, m := range methods {
			a[service+m] = from
		}
	}
	each(tasks, byContainer, "Create", "Start", "Delete", "DeleteProcess", "Get", "Kill", "Exec", "ResizePty", "CloseIO", "Pause",
		"Resume", "ListPids", "Checkpoint", "Update", "Wait")
	each(controller, bySandbox, "Create", "Start", "Platform", "Stop", "Wait", "Status", "Shutdown", "Metrics", "Update")
	each(snapshots, byKey, "Prepare", "View", "Mounts", "Remove", "Commit", "Stat", "Usage")
	each(mounts, byName, "Activate", "Deactivate", "Info")
	each(leases, byID, "Create", "Delete", "AddResource", "DeleteResource", "ListResources")
	each(namespaces, byName, "Get", "Delete")
	return a
}
