package csidriver

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The keys of a volume's context, or of a storage class' parameters.
const (
	keyServer    = "server"
	keyShare     = "share"
	keyOptions   = "mountOptions" // comma-separated
	keyEphemeral = "csi.storage.k8s.io/ephemeral"
)

// nodeService mounts. A volume of a PV is staged, an NFS one by its mount, and published by a bind mount of what was
// staged; one that is written in the pod has no staging path and is published at once.
type nodeService struct {
	csi.UnimplementedNodeServer
	*Driver
}

func (s *nodeService) NodeStageVolume(_ context.Context, req *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	id, path := req.GetVolumeId(), req.GetStagingTargetPath()
	if err := need("volume_id", id, "staging_target_path", path); err != nil {
		return nil, err
	}
	if err := supported(req.GetVolumeCapability()); err != nil {
		return nil, err
	}
	from, err := s.source(id, req.GetVolumeContext(), req.GetVolumeCapability())
	if err == nil {
		from, err = s.fault(from, id, keyFailStage, req.GetVolumeContext())
	}
	if err != nil {
		return nil, err
	}
	return &csi.NodeStageVolumeResponse{}, s.exclusively(id, path, func() error { return s.mountAt(from, path) })
}

func (s *nodeService) NodeUnstageVolume(_ context.Context, req *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	id, path := req.GetVolumeId(), req.GetStagingTargetPath()
	if err := need("volume_id", id, "staging_target_path", path); err != nil {
		return nil, err
	}
	return &csi.NodeUnstageVolumeResponse{}, s.exclusively(id, path, func() error { return s.unmountAt(path) })
}

func (s *nodeService) NodePublishVolume(_ context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	id, path := req.GetVolumeId(), req.GetTargetPath()
	if err := need("volume_id", id, "target_path", path); err != nil {
		return nil, err
	}
	if err := supported(req.GetVolumeCapability()); err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, s.exclusively(id, path, func() error { return s.publish(req) })
}

func (s *nodeService) publish(req *csi.NodePublishVolumeRequest) error {
	id, path, staged := req.GetVolumeId(), req.GetTargetPath(), req.GetStagingTargetPath()
	from := source{from: staged, options: []string{"bind"}}
	if staged == "" {
		if req.GetVolumeContext()[keyEphemeral] == "true" && req.GetVolumeContext()[keyServer] == "" {
			if dir := s.dir("ephemeral", id); dir == "" || os.MkdirAll(dir, 0o755) != nil {
				return status.Errorf(codes.InvalidArgument, "volume_id %q cannot name a directory", id)
			}
		}
		var err error
		if from, err = s.source(id, req.GetVolumeContext(), req.GetVolumeCapability()); err != nil {
			return err
		}
	} else if mounted, err := s.mounter.IsMountPoint(staged); err != nil || !mounted {
		return status.Errorf(codes.FailedPrecondition, "volume %s is not staged at %s", id, staged)
	}
	from, err := s.fault(from, id, keyFailPublish, req.GetVolumeContext())
	if err != nil {
		return err
	}
	if req.GetReadonly() {
		from.options = append(from.options, "ro")
	}
	return s.mountAt(from, path)
}

func (s *nodeService) NodeUnpublishVolume(_ context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	id, path := req.GetVolumeId(), req.GetTargetPath()
	if err := need("volume_id", id, "target_path", path); err != nil {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, s.exclusively(id, path, func() error {
		if err := s.unmountAt(path); err != nil {
			return err
		}
		if dir := s.dir("ephemeral", id); dir != "" {
			return internal(os.RemoveAll(dir))
		}
		return nil
	})
}

func (s *nodeService) NodeGetVolumeStats(_ context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	id, path := req.GetVolumeId(), req.GetVolumePath()
	if err := need("volume_id", id, "volume_path", path); err != nil {
		return nil, err
	}
	if mounted, err := s.mounter.IsMountPoint(path); err != nil || !mounted {
		return nil, status.Errorf(codes.NotFound, "volume %s is not at %s", id, path)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil, status.Errorf(codes.Internal, "statfs %s: %v", path, err)
	}
	block := int64(st.Bsize)
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: int64(st.Blocks) * block, Used: int64(st.Blocks-st.Bfree) * block, Available: int64(st.Bavail) * block},
		{Unit: csi.VolumeUsage_INODES, Total: int64(st.Files), Used: int64(st.Files - st.Ffree), Available: int64(st.Ffree)},
	}}, nil
}

func (s *nodeService) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	resp := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
	} {
		resp.Capabilities = append(resp.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return resp, nil
}

func (s *nodeService) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: s.NodeID}, nil
}

// supported says with CSI's error whether a volume can be had in a way.
func supported(capability *csi.VolumeCapability) error {
	if capability.GetMount() == nil {
		return status.Error(codes.InvalidArgument, "volume_capability missing in request, or not that of a mounted volume")
	}
	return nil
}

// source says what to mount for a volume, from its context and where that is silent from its directory.
func (d *Driver) source(id string, context map[string]string, capability *csi.VolumeCapability) (source, error) {
	if context[keyServer] != "" {
		if err := need(keyShare, context[keyShare]); err != nil {
			return source{}, err
		}
		options := append([]string(nil), capability.GetMount().GetMountFlags()...)
		if more := context[keyOptions]; more != "" {
			options = append(options, strings.Split(more, ",")...)
		}
		return source{context[keyServer] + ":" + context[keyShare], "nfs", options}, nil
	}
	for _, kind := range []string{"volumes", "ephemeral"} {
		if dir := d.dir(kind, id); isDir(dir) {
			return source{from: dir, options: []string{"bind"}}, nil
		}
	}
	return source{}, status.Errorf(codes.NotFound, "volume %s not found", id)
}

// dir is a volume's directory, or empty if the id, which comes from outside, is no file name.
func (d *Driver) dir(kind, id string) string {
	if id == "" || id == "." || id == ".." || strings.ContainsAny(id, "/\x00") {
		return ""
	}
	return filepath.Join(d.Root, kind, id)
}

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}
