package fakecri

import (
	"context"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

// CallAllCSI calls every method of CSI v1 once, in an order in which all can succeed, on volumes that it makes and removes.
// Node's methods go as the kubelet's, each on a new connection; the rest as the sidecars', all on one.
func (k *Kubelet) CallAllCSI(ctx context.Context, driver string) []Result {
	held, err := k.DialCSI(driver)
	if err != nil {
		return []Result{{"", err}}
	}
	defer held.Close()
	rec := &recorder{streams: held}
	rec.invoke = func(ctx context.Context, method string, req, reply any, opts ...grpc.CallOption) error {
		if !strings.HasPrefix(method, "/csi.v1.Node/") {
			return held.Invoke(ctx, method, req, reply, opts...)
		}
		once, err := k.DialCSI(driver)
		if err != nil {
			return err
		}
		defer once.Close()
		return once.Invoke(ctx, method, req, reply, opts...)
	}
	ctx, cancel := context.WithTimeout(ctx, csiTimeout)
	defer cancel()

	identity, controller, group := csi.NewIdentityClient(rec), csi.NewControllerClient(rec), csi.NewGroupControllerClient(rec)
	meta, node := csi.NewSnapshotMetadataClient(rec), csi.NewNodeClient(rec)
	secrets := map[string]string{"password": "hunter2"}
	pod := Pod{Namespace: "fakecri", Name: "call-all"}.withDefaults()
	v := Volume{Driver: driver, PV: "pvc-" + pod.UID, PVC: "data", FSType: "ext4"}
	size := &csi.CapacityRange{RequiredBytes: gib}
	caps := []*csi.VolumeCapability{v.capability()}

	identity.GetPluginInfo(ctx, &csi.GetPluginInfoRequest{})
	identity.GetPluginCapabilities(ctx, &csi.GetPluginCapabilitiesRequest{})
	identity.Probe(ctx, &csi.ProbeRequest{})

	controller.ControllerGetCapabilities(ctx, &csi.ControllerGetCapabilitiesRequest{})
	controller.GetCapacity(ctx, &csi.GetCapacityRequest{VolumeCapabilities: caps})
	created, _ := controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: v.PV, CapacityRange: size, VolumeCapabilities: caps, Parameters: map[string]string{"type": "fast"}, Secrets: secrets,
	})
	v.Handle, v.Context = created.GetVolume().GetVolumeId(), created.GetVolume().GetVolumeContext()
	controller.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{VolumeId: v.Handle, VolumeCapabilities: caps, Secrets: secrets})
	controller.ListVolumes(ctx, &csi.ListVolumesRequest{MaxEntries: 10})
	controller.ControllerGetVolume(ctx, &csi.ControllerGetVolumeRequest{VolumeId: v.Handle})
	controller.ControllerListVolumeHealth(ctx, &csi.ControllerListVolumeHealthRequest{MaxEntries: 10})
	controller.ControllerGetVolumeHealth(ctx, &csi.ControllerGetVolumeHealthRequest{VolumeId: v.Handle})
	controller.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: v.Handle, MutableParameters: map[string]string{"iops": "3000"}, Secrets: secrets})
	controller.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: v.Handle, CapacityRange: size, Secrets: secrets})
	attached, _ := controller.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{
		VolumeId: v.Handle, NodeId: "node-1", VolumeCapability: caps[0], VolumeContext: v.Context, Secrets: secrets,
	})

	node.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
	node.NodeGetCapabilities(ctx, &csi.NodeGetCapabilitiesRequest{})
	node.NodeGetStorageHealth(ctx, &csi.NodeGetStorageHealthRequest{Secrets: secrets})
	node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: v.Handle, PublishContext: attached.GetPublishContext(), StagingTargetPath: StagingPath(v), VolumeCapability: caps[0],
		Secrets: secrets, VolumeContext: v.context(pod),
	})
	target := TargetPath(pod.UID, v)
	node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: v.Handle, PublishContext: attached.GetPublishContext(), StagingTargetPath: StagingPath(v), TargetPath: target, VolumeCapability: caps[0],
		Secrets: secrets, VolumeContext: v.podContext(pod),
	})
	node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: v.Handle, VolumePath: target})
	node.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{VolumeId: v.Handle, VolumePublishPath: target})
	node.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{VolumeId: v.Handle, VolumePath: target, CapacityRange: size, Secrets: secrets})
	node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.Handle, TargetPath: target})
	node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.Handle, StagingTargetPath: StagingPath(v)})
	controller.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: v.Handle, NodeId: "node-1", Secrets: secrets})

	snap, _ := controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{SourceVolumeId: v.Handle, Name: "snapshot-1", Secrets: secrets})
	id := snap.GetSnapshot().GetSnapshotId()
	controller.ListSnapshots(ctx, &csi.ListSnapshotsRequest{SourceVolumeId: v.Handle, Secrets: secrets})
	controller.GetSnapshot(ctx, &csi.GetSnapshotRequest{SnapshotId: id, Secrets: secrets})
	drain(meta.GetMetadataAllocated(ctx, &csi.GetMetadataAllocatedRequest{SnapshotId: id, Secrets: secrets}))
	drain(meta.GetMetadataDelta(ctx, &csi.GetMetadataDeltaRequest{BaseSnapshotId: id, TargetSnapshotId: id, Secrets: secrets}))
	controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: id, Secrets: secrets})

	group.GroupControllerGetCapabilities(ctx, &csi.GroupControllerGetCapabilitiesRequest{})
	snaps, _ := group.CreateVolumeGroupSnapshot(ctx, &csi.CreateVolumeGroupSnapshotRequest{Name: "group-1", SourceVolumeIds: []string{v.Handle}, Secrets: secrets})
	groupID := snaps.GetGroupSnapshot().GetGroupSnapshotId()
	members := collect(snaps.GetGroupSnapshot().GetSnapshots(), (*csi.Snapshot).GetSnapshotId)
	group.GetVolumeGroupSnapshot(ctx, &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: groupID, SnapshotIds: members, Secrets: secrets})
	group.DeleteVolumeGroupSnapshot(ctx, &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: groupID, SnapshotIds: members, Secrets: secrets})
	controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.Handle, Secrets: secrets})
	return rec.results
}
