package sample

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// changes are the methods of the APIs we know that change something, or that
// people want to see each of. Nothing reads it but this test: it is here so that
// somebody decides when an API has a new method.
var changes = map[string][]string{
	"runtime.v1.RuntimeService": {
		"RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "CreateContainer", "StartContainer", "StopContainer", "RemoveContainer",
		"UpdateContainerResources", "UpdatePodSandboxResources", "UpdateRuntimeConfig", "ReopenContainerLog", "Exec", "Attach", "PortForward",
		"CheckpointContainer", "CheckpointPod", "RestorePod",
	},
	"runtime.v1.ImageService": {"PullImage", "RemoveImage"},
	"csi.v1.Controller": {
		"CreateVolume", "DeleteVolume", "ControllerPublishVolume", "ControllerUnpublishVolume", "CreateSnapshot", "DeleteSnapshot",
		"ControllerExpandVolume", "ControllerModifyVolume",
	},
	"csi.v1.GroupController":                        {"CreateVolumeGroupSnapshot", "DeleteVolumeGroupSnapshot"},
	"csi.v1.Node":                                   {"NodeStageVolume", "NodeUnstageVolume", "NodePublishVolume", "NodeUnpublishVolume", "NodeExpandVolume"},
	"v1beta1.DevicePlugin":                          {"Allocate", "PreStartContainer"},
	"v1beta1.Registration":                          {"Register"},
	"k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin": {"NodePrepareResources", "NodeUnprepareResources"},
	"k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin":      {"NodePrepareResources", "NodeUnprepareResources"},
	"pluginregistration.Registration":               {"NotifyRegistrationStatus"},
	"v2.KeyManagementService":                       {"Decrypt", "Encrypt"},
	"containerd.services.containers.v1.Containers":  {"Create", "Update", "Delete"},
	"containerd.services.content.v1.Content":        {"Update", "Delete", "Write", "Abort"},
	"containerd.services.diff.v1.Diff":              {"Apply", "Diff"},
	"containerd.services.events.v1.Events":          {"Publish", "Forward"},
	"containerd.services.images.v1.Images":          {"Create", "Update", "Delete"},
	"containerd.services.leases.v1.Leases":          {"Create", "Delete", "AddResource", "DeleteResource"},
	"containerd.services.mounts.v1.Mounts":          {"Activate", "Deactivate", "Update"},
	"containerd.services.namespaces.v1.Namespaces":  {"Create", "Update", "Delete"},
	"containerd.services.sandbox.v1.Controller":     {"Create", "Start", "Stop", "Shutdown", "Update"},
	"containerd.services.sandbox.v1.Store":          {"Create", "Update", "Delete"},
	"containerd.services.snapshots.v1.Snapshots":    {"Prepare", "View", "Commit", "Remove", "Update", "Cleanup"},
	"containerd.services.streaming.v1.Streaming":    {"Stream"},
	"containerd.services.tasks.v1.Tasks":            {"Create", "Start", "Delete", "DeleteProcess", "Kill", "Exec", "ResizePty", "CloseIO", "Pause", "Resume", "Checkpoint", "Update"},
	"containerd.services.transfer.v1.Transfer":      {"Transfer"},
	"etcdserverpb.KV":                               {"Put", "DeleteRange", "Txn", "Compact"},
	"etcdserverpb.Lease":                            {"LeaseGrant", "LeaseRevoke"},
	"etcdserverpb.Cluster":                          {"MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote"},
	"etcdserverpb.Maintenance":                      {"Alarm", "Defragment", "Snapshot", "MoveLeader", "Downgrade"},
	"etcdserverpb.Auth": {
		"AuthEnable", "AuthDisable", "Authenticate", "UserAdd", "UserDelete", "UserChangePassword", "UserGrantRole", "UserRevokeRole",
		"RoleAdd", "RoleDelete", "RoleGrantPermission", "RoleRevokePermission",
	},
}

func TestEveryMethodIsDecided(t *testing.T) {
	known := knownMethods(t)
	for n := range known {
		if change := slices.Contains(changes[n.service], n.method); change == asks[n] {
			t.Errorf("%s/%s: only asks: %v; changes something: %v; it is to be one of both", n.service, n.method, asks[n], change)
		}
	}
	for n := range asks {
		if !known[n] && n.service != "grpc.health.v1.Health" {
			t.Errorf("%s/%s: no API that we know has this method", n.service, n.method)
		}
	}
}

// knownMethods reads the methods off the descriptors that the binary has.
func knownMethods(t *testing.T) map[name]bool {
	files, err := filepath.Glob("../codec/schema/descriptors/*.binpb.gz")
	if err != nil || len(files) == 0 {
		t.Fatal("no descriptors", err)
	}
	all := map[name]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		set := &descriptorpb.FileDescriptorSet{}
		if err := proto.Unmarshal(raw, set); err != nil {
			t.Fatal(err)
		}
		for _, file := range set.GetFile() {
			for _, s := range file.GetService() {
				for _, m := range s.GetMethod() {
					all[name{file.GetPackage() + "." + s.GetName(), m.GetName()}] = true
				}
			}
		}
	}
	return all
}
