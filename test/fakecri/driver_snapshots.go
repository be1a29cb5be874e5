package fakecri

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// groupService snapshots several volumes at once. Its repeats are told by the name, which is in the group's id.
type groupService struct {
	csi.UnimplementedGroupControllerServer
	*storage
}

func (s *groupService) GroupControllerGetCapabilities(context.Context, *csi.GroupControllerGetCapabilitiesRequest) (*csi.GroupControllerGetCapabilitiesResponse, error) {
	return &csi.GroupControllerGetCapabilitiesResponse{Capabilities: []*csi.GroupControllerServiceCapability{{
		Type: &csi.GroupControllerServiceCapability_Rpc{Rpc: &csi.GroupControllerServiceCapability_RPC{
			Type: csi.GroupControllerServiceCapability_RPC_CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT,
		}},
	}}}, nil
}

func (s *groupService) CreateVolumeGroupSnapshot(_ context.Context, req *csi.CreateVolumeGroupSnapshotRequest) (*csi.CreateVolumeGroupSnapshotResponse, error) {
	if err := need("name", req.GetName()); err != nil {
		return nil, err
	}
	if len(req.GetSourceVolumeIds()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "source_volume_ids missing in request")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := &csi.VolumeGroupSnapshot{GroupSnapshotId: "group-" + hash(req.GetName())[:17], CreationTime: timestamppb.Now(), ReadyToUse: true}
	if old, ok := s.groups.get(g.GroupSnapshotId); ok {
		return &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: old}, nil
	}
	var sources []*volume
	for _, id := range req.GetSourceVolumeIds() {
		v, err := s.getVolume(id)
		if err != nil {
			return nil, err
		}
		sources = append(sources, v)
	}
	g.Snapshots = collect(sources, func(v *volume) *csi.Snapshot { return s.snapshot(v, g.GroupSnapshotId) })
	s.groups.put(g.GroupSnapshotId, g)
	return &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: g}, nil
}

func (s *groupService) DeleteVolumeGroupSnapshot(_ context.Context, req *csi.DeleteVolumeGroupSnapshotRequest) (*csi.DeleteVolumeGroupSnapshotResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := s.groups.get(req.GetGroupSnapshotId()); ok {
		for _, snap := range g.Snapshots {
			s.snapshots.drop(snap.SnapshotId)
		}
		s.groups.drop(g.GroupSnapshotId)
	}
	return &csi.DeleteVolumeGroupSnapshotResponse{}, need("group_snapshot_id", req.GetGroupSnapshotId())
}

func (s *groupService) GetVolumeGroupSnapshot(_ context.Context, req *csi.GetVolumeGroupSnapshotRequest) (*csi.GetVolumeGroupSnapshotResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.groups.get(req.GetGroupSnapshotId())
	if !ok {
		return nil, status.Errorf(codes.NotFound, "group snapshot %s not found", req.GetGroupSnapshotId())
	}
	return &csi.GetVolumeGroupSnapshotResponse{GroupSnapshot: g}, nil
}

// metadataService tells which blocks a snapshot has, in a stream.
type metadataService struct {
	csi.UnimplementedSnapshotMetadataServer
	*storage
}

const blockSize = 1 << 20

// blocks sends the changed blocks of a snapshot, every second MiB of the first 64, from an offset on, max a message.
func (s *metadataService) blocks(max int32, from int64, send func(capacity int64, blocks []*csi.BlockMetadata) error, snapshots ...string) error {
	s.mu.Lock()
	var size int64
	for _, id := range snapshots {
		snap, err := s.getSnapshot(id)
		if err != nil {
			s.mu.Unlock()
			return err
		}
		size = snap.SizeBytes
	}
	s.mu.Unlock()
	var all []*csi.BlockMetadata
	for off := int64(0); off < min(size, 64*blockSize); off += 2 * blockSize {
		if off >= from {
			all = append(all, &csi.BlockMetadata{ByteOffset: off, SizeBytes: blockSize})
		}
	}
	if max <= 0 {
		max = 8
	}
	for token := ""; ; {
		chunk, next, err := page(all, max, token)
		if err != nil {
			return err
		}
		if err := send(size, chunk); err != nil || next == "" {
			return err
		}
		token = next
	}
}

func (s *metadataService) GetMetadataAllocated(req *csi.GetMetadataAllocatedRequest, stream csi.SnapshotMetadata_GetMetadataAllocatedServer) error {
	return s.blocks(req.GetMaxResults(), req.GetStartingOffset(), func(capacity int64, blocks []*csi.BlockMetadata) error {
		return stream.Send(&csi.GetMetadataAllocatedResponse{
			BlockMetadataType: csi.BlockMetadataType_FIXED_LENGTH, VolumeCapacityBytes: capacity, BlockMetadata: blocks,
		})
	}, req.GetSnapshotId())
}

func (s *metadataService) GetMetadataDelta(req *csi.GetMetadataDeltaRequest, stream csi.SnapshotMetadata_GetMetadataDeltaServer) error {
	return s.blocks(req.GetMaxResults(), req.GetStartingOffset(), func(capacity int64, blocks []*csi.BlockMetadata) error {
		return stream.Send(&csi.GetMetadataDeltaResponse{
			BlockMetadataType: csi.BlockMetadataType_FIXED_LENGTH, VolumeCapacityBytes: capacity, BlockMetadata: blocks,
		})
	}, req.GetBaseSnapshotId(), req.GetTargetSnapshotId())
}
