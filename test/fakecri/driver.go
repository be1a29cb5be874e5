package fakecri

import (
	"context"
	"fmt"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// DefaultDriver is the name of a [Driver] that was given none.
const DefaultDriver = "nfs.csi.example.com"

// A Driver is a fake CSI driver: all of CSI v1, controller and node in one. It mounts nothing.
type Driver struct {
	*Server
	// Name is the driver's name, as GetPluginInfo tells it.
	Name string
}

// NewDriver makes a driver without volumes, to be served by Serve, ListenAndServe or Start.
func NewDriver(opts ...Option) *Driver {
	c := newConfig(DefaultDriver, opts)
	s := newServer(c)
	d := &storage{name: c.name, ids: ids{seed: c.seed}, staged: map[mount]bool{}, published: map[mount]bool{}}
	csi.RegisterIdentityServer(s.grpc, &identityService{storage: d})
	csi.RegisterControllerServer(s.grpc, &controllerService{storage: d})
	csi.RegisterGroupControllerServer(s.grpc, &groupService{storage: d})
	csi.RegisterSnapshotMetadataServer(s.grpc, &metadataService{storage: d})
	csi.RegisterNodeServer(s.grpc, &nodeService{storage: d})
	return &Driver{Server: s, Name: c.name}
}

// CSIMethods are the full names of the methods of CSI v1, "/csi.v1.Identity/Probe" and so on.
func CSIMethods() []string {
	return methodsOf(csi.Identity_ServiceDesc, csi.Controller_ServiceDesc, csi.GroupController_ServiceDesc,
		csi.SnapshotMetadata_ServiceDesc, csi.Node_ServiceDesc)
}

// A storage is what a driver knows. Volumes that it did not create exist too (static and inline ones do): it remembers
// where they are staged and published, no more. Messages that went out are never changed afterwards.
type storage struct {
	name string
	ids  ids

	mu                sync.Mutex
	volumes           table[volume]
	snapshots         table[csi.Snapshot]
	groups            table[csi.VolumeGroupSnapshot]
	staged, published map[mount]bool
}

type volume struct {
	name  string
	v     *csi.Volume
	nodes []string // where it is attached
}

type mount struct{ volume, path string }

const gib = 1 << 30

// need is CSI's answer to an empty required field: fields are name, value, name, value…
func need(fields ...string) error {
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] == "" {
			return status.Errorf(codes.InvalidArgument, "%s missing in request", fields[i])
		}
	}
	return nil
}

// getVolume is get with CSI's error. The lock is held.
func (d *storage) getVolume(id string) (*volume, error) {
	if err := need("volume_id", id); err != nil {
		return nil, err
	}
	if v, ok := d.volumes.get(id); ok {
		return v, nil
	}
	return nil, status.Errorf(codes.NotFound, "volume %s not found", id)
}

// getSnapshot is get with CSI's error. The lock is held.
func (d *storage) getSnapshot(id string) (*csi.Snapshot, error) {
	if err := need("snapshot_id", id); err != nil {
		return nil, err
	}
	if s, ok := d.snapshots.get(id); ok {
		return s, nil
	}
	return nil, status.Errorf(codes.NotFound, "snapshot %s not found", id)
}

// page is CSI's paging: up to n entries from a token on, and the token of what follows.
func page[T any](all []T, n int32, token string) ([]T, string, error) {
	from := 0
	if token != "" {
		if _, err := fmt.Sscanf(token, "%d", &from); err != nil || from < 0 || from > len(all) {
			return nil, "", status.Errorf(codes.Aborted, "starting_token %q is not valid", token)
		}
	}
	rest := all[from:]
	if n <= 0 || int(n) >= len(rest) {
		return rest, "", nil
	}
	return rest[:n], fmt.Sprint(from + int(n)), nil
}

// healthy is an alpha API's way to say that nothing is wrong: no entries.
func healthy(volumeID string) *csi.VolumeHealth { return &csi.VolumeHealth{VolumeId: volumeID} }

type identityService struct {
	csi.UnimplementedIdentityServer
	*storage
}

func (s *identityService) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: s.name, VendorVersion: "v1.0.0"}, nil
}

func (s *identityService) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	resp := &csi.GetPluginCapabilitiesResponse{}
	for _, t := range []csi.PluginCapability_Service_Type{
		csi.PluginCapability_Service_CONTROLLER_SERVICE,
		csi.PluginCapability_Service_GROUP_CONTROLLER_SERVICE,
		csi.PluginCapability_Service_SNAPSHOT_METADATA_SERVICE,
	} {
		resp.Capabilities = append(resp.Capabilities, &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: t}}})
	}
	return resp, nil
}

func (s *identityService) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}
