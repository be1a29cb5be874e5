// Package csidriver is a CSI driver with real mounts, for tests against a real kubelet, csi-sanity and failures that nobody
// scripted: what mount(8) says is what its callers get.
//
// The rules:
//
//   - A volume is a directory of this machine, bind-mounted; one whose context names a server and a share is an NFS mount,
//     made with the options of the capability's mount_flags and the context's mountOptions (the keys of csi-driver-nfs).
//   - A mount that fails is INTERNAL, in the words of k8s.io/mount-utils. One that hangs goes on when its call's deadline
//     has passed, and as long as it does, a retry is ABORTED.
//   - A volume whose context says so (fault.go) cannot be mounted the first few times.
//   - Stop ends the mounts that still run, by pid. What is mounted stays mounted: pods use it.
//   - It imports nothing of internal/, so that it can be the oracle for what is there.
package csidriver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"k8s.io/mount-utils"
)

// DefaultName is the name of a driver that was given none.
const DefaultName = "nfs.csi.grpc-tap.test"

// Config is what drivers differ in. The zero value of all but Root does.
type Config struct {
	// Root holds the directory volumes: volumes/ID, which lasts until
	// DeleteVolume, and ephemeral/ID, which lasts as long as its pod. A static
	// volume is a directory that somebody made in volumes.
	Root   string
	Name   string    // the driver's; empty: DefaultName
	NodeID string    // empty: "node-1"
	Log    io.Writer // gets a line when a call has ended; nil: nothing is logged
}

// A Driver serves the Identity, Controller and Node services.
type Driver struct {
	Config

	grpc    *grpc.Server
	mounter mount.Interface
	serving sync.WaitGroup // the goroutines of serve

	mu         sync.Mutex
	registered []*grpc.Server         // of Register
	volumes    map[string]*csi.Volume // those that this process has created
	busy       map[string]bool        // paths that are being mounted or unmounted
	faults     map[string]int         // mounts that were made to fail
}

// New makes a driver, to be served by Start.
func New(c Config) (*Driver, error) {
	if c.Name == "" {
		c.Name = DefaultName
	}
	if c.NodeID == "" {
		c.NodeID = "node-1"
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	for _, dir := range []string{"volumes", "ephemeral"} {
		if err := os.MkdirAll(filepath.Join(c.Root, dir), 0o755); err != nil {
			return nil, fmt.Errorf("root of the volumes: %w", err)
		}
	}
	// A driver runs in a container, without systemd: mounts are its children.
	d := &Driver{Config: c, mounter: mount.NewWithoutSystemd(""), volumes: map[string]*csi.Volume{}, busy: map[string]bool{}, faults: map[string]int{}}
	d.grpc = grpc.NewServer(grpc.UnaryInterceptor(d.log), grpc.WaitForHandlers(true))
	csi.RegisterIdentityServer(d.grpc, &identityService{Driver: d})
	csi.RegisterControllerServer(d.grpc, &controllerService{Driver: d})
	csi.RegisterNodeServer(d.grpc, &nodeService{Driver: d})
	return d, nil
}

// Start serves on a Unix socket in the background: when it returns, clients can dial path.
func (d *Driver) Start(path string) error { return d.serve(d.grpc, path) }

// Stop cuts every connection, ends the mounts that still run, and returns when every call's handler has.
func (d *Driver) Stop() {
	d.mu.Lock()
	servers := append([]*grpc.Server{d.grpc}, d.registered...)
	d.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, s := range servers {
			s.Stop()
		}
		d.serving.Wait()
	}()
	// Again and again: a mount(8) starts its helper when it likes.
	paths := map[string]bool{}
	for done := false; ; {
		d.mu.Lock()
		maps.Copy(paths, d.busy)
		d.mu.Unlock()
		if endMounts(paths) == 0 && done {
			return
		}
		select {
		case <-ended:
			done = true
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// serve listens at a path, where a socket of an earlier life may lie.
func (d *Driver) serve(s *grpc.Server, path string) error {
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() == fs.ModeSocket {
		os.Remove(path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	lis, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	d.serving.Go(func() {
		if err := s.Serve(lis); err != nil {
			fmt.Fprintf(d.Log, "serving %s ended: %v\n", path, err)
		}
	})
	return nil
}

// log writes a call's method, code and length before its caller has the response. An oracle reads these lines: each is
// "call", method, code and duration.
func (d *Driver) log(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	began := time.Now()
	resp, err := handler(ctx, req)
	fmt.Fprintf(d.Log, "call %s %s %v\n", path.Base(info.FullMethod), status.Code(err), time.Since(began))
	return resp, err
}

// need is CSI's answer to an empty required field: fields are name, value, name, value…
func need(fields ...string) error {
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] == "" {
			return status.Errorf(codes.InvalidArgument, "%s missing in request", fields[i])
		}
	}
	return nil
}

type identityService struct {
	csi.UnimplementedIdentityServer
	*Driver
}

func (s *identityService) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: s.Name, VendorVersion: "v0.0.0"}, nil
}

func (s *identityService) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{{
		Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}},
	}}}, nil
}

func (s *identityService) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}
