package csidriver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// controllerService creates directories, and NFS volumes by name only: what a server exports is not ours to make. As CSI
// demands, creating what is there returns it, and deleting what is not there is no error.
type controllerService struct {
	csi.UnimplementedControllerServer
	*Driver
}

func (s *controllerService) CreateVolume(_ context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if err := need("name", req.GetName()); err != nil {
		return nil, err
	}
	if err := supportedAll(req.GetVolumeCapabilities()); err != nil {
		return nil, err
	}
	id, size := idOf(req.GetName()), req.GetCapacityRange().GetRequiredBytes()
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.volumes[id]; ok {
		limit := req.GetCapacityRange().GetLimitBytes()
		if v.CapacityBytes < size || limit != 0 && v.CapacityBytes > limit {
			return nil, status.Errorf(codes.AlreadyExists, "volume %s exists with %d bytes", req.GetName(), v.CapacityBytes)
		}
		return &csi.CreateVolumeResponse{Volume: v}, nil
	}
	v := &csi.Volume{VolumeId: id, CapacityBytes: size, VolumeContext: maps.Clone(req.GetParameters())}
	if v.VolumeContext[keyServer] == "" {
		if err := os.MkdirAll(s.dir("volumes", id), 0o755); err != nil {
			return nil, internal(err)
		}
	} else if err := need(keyShare, v.VolumeContext[keyShare]); err != nil {
		return nil, err
	}
	s.volumes[id] = v
	return &csi.CreateVolumeResponse{Volume: v}, nil
}

func (s *controllerService) DeleteVolume(_ context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if err := need("volume_id", req.GetVolumeId()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if dir := s.dir("volumes", req.GetVolumeId()); dir != "" {
		if err := os.RemoveAll(dir); err != nil {
			return nil, internal(err)
		}
	}
	delete(s.volumes, req.GetVolumeId())
	return &csi.DeleteVolumeResponse{}, nil
}

func (s *controllerService) ValidateVolumeCapabilities(_ context.Context, req *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	id := req.GetVolumeId()
	if err := need("volume_id", id); err != nil {
		return nil, err
	}
	s.mu.Lock()
	_, known := s.volumes[id]
	s.mu.Unlock()
	if !known && !isDir(s.dir("volumes", id)) {
		return nil, status.Errorf(codes.NotFound, "volume %s not found", id)
	}
	if err := supportedAll(req.GetVolumeCapabilities()); err != nil {
		return nil, err
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: req.GetVolumeContext(), VolumeCapabilities: req.GetVolumeCapabilities(), Parameters: req.GetParameters(),
	}}, nil
}

func (s *controllerService) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: []*csi.ControllerServiceCapability{{
		Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{
			Type: csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		}},
	}}}, nil
}

func supportedAll(capabilities []*csi.VolumeCapability) error {
	if len(capabilities) == 0 {
		return status.Error(codes.InvalidArgument, "volume_capabilities missing in request")
	}
	for _, c := range capabilities {
		if err := supported(c); err != nil {
			return err
		}
	}
	return nil
}

// idOf gives a name, which may hold anything, an id that can name a directory, the same each time.
func idOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "vol-" + hex.EncodeToString(sum[:8])
}
