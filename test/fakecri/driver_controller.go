package fakecri

import (
	"context"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// controllerService creates and attaches. As CSI demands, creating what has that name already returns it, and deleting what
// is not there is no error.
type controllerService struct {
	csi.UnimplementedControllerServer
	*storage
}

func (s *controllerService) CreateVolume(_ context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if err := need("name", req.GetName()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.volumes.order {
		if v.name == req.GetName() {
			return &csi.CreateVolumeResponse{Volume: v.v}, nil
		}
	}
	v := &volume{name: req.GetName(), v: &csi.Volume{
		VolumeId: "vol-" + s.ids.next()[:17], CapacityBytes: max(req.GetCapacityRange().GetRequiredBytes(), gib),
		VolumeContext: map[string]string{"server": "nfs.example.internal", "share": "/exports/" + req.GetName()},
		ContentSource: req.GetVolumeContentSource(),
	}}
	s.volumes.put(v.v.VolumeId, v)
	return &csi.CreateVolumeResponse{Volume: v.v}, nil
}

func (s *controllerService) DeleteVolume(_ context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.volumes.drop(req.GetVolumeId())
	return &csi.DeleteVolumeResponse{}, need("volume_id", req.GetVolumeId())
}

func (s *controllerService) ControllerPublishVolume(_ context.Context, req *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.getVolume(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if !slices.Contains(v.nodes, req.GetNodeId()) {
		v.nodes = append(slices.Clone(v.nodes), req.GetNodeId())
	}
	return &csi.ControllerPublishVolumeResponse{PublishContext: map[string]string{"devicePath": "/dev/xvdba"}}, nil
}

func (s *controllerService) ControllerUnpublishVolume(_ context.Context, req *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.volumes.get(req.GetVolumeId()); ok {
		v.nodes = slices.DeleteFunc(slices.Clone(v.nodes), func(n string) bool { return n == req.GetNodeId() })
	}
	return &csi.ControllerUnpublishVolumeResponse{}, need("volume_id", req.GetVolumeId())
}

func (s *controllerService) ValidateVolumeCapabilities(_ context.Context, req *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.getVolume(req.GetVolumeId()); err != nil {
		return nil, err
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: req.GetVolumeContext(), VolumeCapabilities: req.GetVolumeCapabilities(), Parameters: req.GetParameters(),
	}}, nil
}

func (s *controllerService) ListVolumes(_ context.Context, req *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	vs, next, err := page(s.volumes.order, req.GetMaxEntries(), req.GetStartingToken())
	return &csi.ListVolumesResponse{NextToken: next, Entries: collect(vs, func(v *volume) *csi.ListVolumesResponse_Entry {
		return &csi.ListVolumesResponse_Entry{Volume: v.v, Status: &csi.ListVolumesResponse_VolumeStatus{PublishedNodeIds: v.nodes}}
	})}, err
}

func (s *controllerService) ControllerListVolumeHealth(_ context.Context, req *csi.ControllerListVolumeHealthRequest) (*csi.ControllerListVolumeHealthResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	vs, next, err := page(s.volumes.order, req.GetMaxEntries(), req.GetStartingToken())
	return &csi.ControllerListVolumeHealthResponse{NextToken: next, Entries: collect(vs, func(v *volume) *csi.VolumeHealth {
		return healthy(v.v.VolumeId)
	})}, err
}

func (s *controllerService) ControllerGetVolumeHealth(_ context.Context, req *csi.ControllerGetVolumeHealthRequest) (*csi.ControllerGetVolumeHealthResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.getVolume(req.GetVolumeId()); err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: healthy(req.GetVolumeId())}, nil
}

func (s *controllerService) GetCapacity(context.Context, *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	return &csi.GetCapacityResponse{AvailableCapacity: 100 * gib, MaximumVolumeSize: wrapperspb.Int64(10 * gib)}, nil
}

func (s *controllerService) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	resp := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME, csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES, csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT, csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME, csi.ControllerServiceCapability_RPC_MODIFY_VOLUME,
	} {
		resp.Capabilities = append(resp.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		})
	}
	return resp, nil
}

// snapshot makes a snapshot of a volume. The lock is held.
func (d *storage) snapshot(v *volume, group string) *csi.Snapshot {
	snap := &csi.Snapshot{
		SnapshotId: "snap-" + d.ids.next()[:17], SourceVolumeId: v.v.VolumeId, SizeBytes: v.v.CapacityBytes,
		CreationTime: timestamppb.Now(), ReadyToUse: true, GroupSnapshotId: group,
	}
	d.snapshots.put(snap.SnapshotId, snap)
	return snap
}

// CreateSnapshot tells a repeated request by the volume alone: a volume has one snapshot at most outside of groups.
func (s *controllerService) CreateSnapshot(_ context.Context, req *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.getVolume(req.GetSourceVolumeId())
	if err != nil {
		return nil, err
	}
	for _, snap := range s.snapshots.order {
		if snap.SourceVolumeId == v.v.VolumeId && snap.GroupSnapshotId == "" {
			return &csi.CreateSnapshotResponse{Snapshot: snap}, nil
		}
	}
	return &csi.CreateSnapshotResponse{Snapshot: s.snapshot(v, "")}, nil
}

func (s *controllerService) DeleteSnapshot(_ context.Context, req *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshots.drop(req.GetSnapshotId())
	return &csi.DeleteSnapshotResponse{}, need("snapshot_id", req.GetSnapshotId())
}

func (s *controllerService) ListSnapshots(_ context.Context, req *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.snapshots.where(func(snap *csi.Snapshot) bool {
		return (req.GetSnapshotId() == "" || req.GetSnapshotId() == snap.SnapshotId) &&
			(req.GetSourceVolumeId() == "" || req.GetSourceVolumeId() == snap.SourceVolumeId)
	})
	snaps, next, err := page(all, req.GetMaxEntries(), req.GetStartingToken())
	return &csi.ListSnapshotsResponse{NextToken: next, Entries: collect(snaps, func(snap *csi.Snapshot) *csi.ListSnapshotsResponse_Entry {
		return &csi.ListSnapshotsResponse_Entry{Snapshot: snap}
	})}, err
}

func (s *controllerService) GetSnapshot(_ context.Context, req *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap, err := s.getSnapshot(req.GetSnapshotId())
	return &csi.GetSnapshotResponse{Snapshot: snap}, err
}

func (s *controllerService) ControllerExpandVolume(_ context.Context, req *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.getVolume(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	v.v = &csi.Volume{
		VolumeId: v.v.VolumeId, CapacityBytes: max(v.v.CapacityBytes, req.GetCapacityRange().GetRequiredBytes()),
		VolumeContext: v.v.VolumeContext, ContentSource: v.v.ContentSource,
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: v.v.CapacityBytes, NodeExpansionRequired: true}, nil
}

func (s *controllerService) ControllerGetVolume(_ context.Context, req *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.getVolume(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeResponse{Volume: v.v, Status: &csi.ControllerGetVolumeResponse_VolumeStatus{PublishedNodeIds: v.nodes}}, nil
}

func (s *controllerService) ControllerModifyVolume(_ context.Context, req *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.getVolume(req.GetVolumeId())
	return &csi.ControllerModifyVolumeResponse{}, err
}
