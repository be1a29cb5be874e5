package fakecri

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nodeService remembers what is staged and published where. Doing it twice, or undoing what is not done, is no error.
type nodeService struct {
	csi.UnimplementedNodeServer
	*storage
}

func (s *nodeService) NodeStageVolume(_ context.Context, req *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	if err := need("volume_id", req.GetVolumeId(), "staging_target_path", req.GetStagingTargetPath()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.staged[mount{req.GetVolumeId(), req.GetStagingTargetPath()}] = true
	return &csi.NodeStageVolumeResponse{}, nil
}

func (s *nodeService) NodeUnstageVolume(_ context.Context, req *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.staged, mount{req.GetVolumeId(), req.GetStagingTargetPath()})
	return &csi.NodeUnstageVolumeResponse{}, need("volume_id", req.GetVolumeId(), "staging_target_path", req.GetStagingTargetPath())
}

// NodePublishVolume wants the volume staged first where the request names a staging path.
func (s *nodeService) NodePublishVolume(_ context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := need("volume_id", req.GetVolumeId(), "target_path", req.GetTargetPath()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := req.GetStagingTargetPath(); p != "" && !s.staged[mount{req.GetVolumeId(), p}] {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is not staged at %s", req.GetVolumeId(), p)
	}
	s.published[mount{req.GetVolumeId(), req.GetTargetPath()}] = true
	return &csi.NodePublishVolumeResponse{}, nil
}

func (s *nodeService) NodeUnpublishVolume(_ context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.published, mount{req.GetVolumeId(), req.GetTargetPath()})
	return &csi.NodeUnpublishVolumeResponse{}, need("volume_id", req.GetVolumeId(), "target_path", req.GetTargetPath())
}

// mounted says with CSI's error whether a volume is at a path.
func (s *nodeService) mounted(id, path string) error {
	if err := need("volume_id", id, "volume_path", path); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := (mount{id, path}); !s.published[at] && !s.staged[at] {
		return status.Errorf(codes.NotFound, "volume %s is not at %s", id, path)
	}
	return nil
}

func (s *nodeService) NodeGetVolumeStats(_ context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if err := s.mounted(req.GetVolumeId(), req.GetVolumePath()); err != nil {
		return nil, err
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: gib, Used: gib / 4, Available: gib - gib/4},
		{Unit: csi.VolumeUsage_INODES, Total: 65536, Used: 1024, Available: 65536 - 1024},
	}}, nil
}

func (s *nodeService) NodeGetVolumeHealth(_ context.Context, req *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	if err := s.mounted(req.GetVolumeId(), req.GetVolumePublishPath()); err != nil {
		return nil, err
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: healthy(req.GetVolumeId())}, nil
}

func (s *nodeService) NodeGetStorageHealth(context.Context, *csi.NodeGetStorageHealthRequest) (*csi.NodeGetStorageHealthResponse, error) {
	return &csi.NodeGetStorageHealthResponse{}, nil
}

func (s *nodeService) NodeExpandVolume(_ context.Context, req *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	if err := s.mounted(req.GetVolumeId(), req.GetVolumePath()); err != nil {
		return nil, err
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: req.GetCapacityRange().GetRequiredBytes()}, nil
}

func (s *nodeService) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	resp := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
	} {
		resp.Capabilities = append(resp.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return resp, nil
}

func (s *nodeService) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: "node-1", MaxVolumesPerNode: 128}, nil
}
