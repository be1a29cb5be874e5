package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/grpc-tap/grpc-tap/test/csidriver"
)

// TestCSIMounts takes volumes through their lives, with real mounts: what a
// pod writes is in the volume, and the records tell whose it was.
func TestCSIMounts(t *testing.T) {
	d := newCSIDriver(t)
	tap := Proxy(t, d.Socket)
	d.introduce(tap.Listen)

	persistent, inline := d.volume("persistent", false, nil), d.volume("inline", true, nil)
	do := func(what string, call func(context.Context, grpc.ClientConnInterface) error) {
		t.Helper()
		if _, err := csiCall(t, tap.Listen, time.Minute, call); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	do("create", func(ctx context.Context, c grpc.ClientConnInterface) error {
		resp, err := csi.NewControllerClient(c).CreateVolume(ctx, &csi.CreateVolumeRequest{Name: persistent.pv, VolumeCapabilities: []*csi.VolumeCapability{mountable()}})
		persistent.id = resp.GetVolume().GetVolumeId()
		return err
	})
	do("stage", persistent.stage)
	do("publish", persistent.publish)
	do("publish again", persistent.publish)
	do("publish inline", inline.publish)
	if want := []string{persistent.staging, persistent.target, inline.target}; !slices.Equal(d.Mounts(), want) {
		t.Errorf("mounted: %q, not %q", d.Mounts(), want)
	}

	// The pod's view is the driver's: the mounts are in its namespace.
	inPod := fmt.Sprintf("/proc/%d/root%s/file", d.PID(), persistent.target)
	if err := os.WriteFile(inPod, []byte("written by the pod"), 0o644); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(d.Path("root/volumes", persistent.id, "file")); string(data) != "written by the pod" {
		t.Errorf("in the volume: %q, %v", data, err)
	}

	for _, v := range []csiVolume{persistent, inline} {
		do("unpublish", func(ctx context.Context, c grpc.ClientConnInterface) error {
			_, err := csi.NewNodeClient(c).NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.id, TargetPath: v.target})
			return err
		})
		if !absent(v.target) {
			t.Errorf("%s is still there", v.target)
		}
	}
	do("unstage", func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := csi.NewNodeClient(c).NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: persistent.id, StagingTargetPath: persistent.staging})
		return err
	})
	do("delete", func(ctx context.Context, c grpc.ClientConnInterface) error {
		_, err := csi.NewControllerClient(c).DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: persistent.id})
		return err
	})
	for _, path := range []string{d.Path("root/volumes", persistent.id), d.Path("root/ephemeral", inline.id)} {
		if !absent(path) {
			t.Errorf("%s is still there", path)
		}
	}
	if mounts := d.Mounts(); len(mounts) > 0 {
		t.Errorf("still mounted: %q", mounts)
	}

	tap.Stop()
	if !tap.Tells {
		return
	}
	d.checkAllTold(tap)
	for _, r := range tap.Records() {
		switch r.Method {
		case "NodeStageVolume":
			persistent.checkTold(t, r)
		case "NodePublishVolume", "NodeUnpublishVolume":
			v := persistent
			if r.Pod.UID == inline.uid {
				v = inline
			}
			// Of an unpublish, whose request has ids and a path only, by the publish.
			v.checkTold(t, r)
		}
	}
}

// introduce asks the driver through a socket what it is called, as its
// registrar does when it starts.
func (d *csiDriver) introduce(socket string) {
	d.t.Helper()
	_, err := csiCall(d.t, socket, time.Minute, func(ctx context.Context, c grpc.ClientConnInterface) error {
		info, err := csi.NewIdentityClient(c).GetPluginInfo(ctx, &csi.GetPluginInfoRequest{})
		if err == nil && info.GetName() != csidriver.DefaultName {
			err = fmt.Errorf("it is called %q", info.GetName())
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// TestCSIRegistration asks what a kubelet asks of a socket in its
// plugins_registry, and is sent to the path where a tap would be.
func TestCSIRegistration(t *testing.T) {
	d := newCSIDriver(t)
	_, err := csiCall(t, d.Registration, time.Minute, func(ctx context.Context, c grpc.ClientConnInterface) error {
		r := registration.NewRegistrationClient(c)
		info, err := r.GetInfo(ctx, &registration.InfoRequest{})
		if err != nil {
			return err
		}
		if info.GetType() != registration.CSIPlugin || info.GetName() != csidriver.DefaultName || info.GetEndpoint() != d.Dialled || len(info.GetSupportedVersions()) == 0 {
			t.Errorf("it registers as %v", info)
		}
		_, err = r.NotifyRegistrationStatus(ctx, &registration.RegistrationStatus{PluginRegistered: true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(10 * time.Second); err != nil || !absent(d.Socket) || !absent(d.Registration) {
		t.Errorf("after SIGTERM: %v, or its sockets are still there", err)
	}
}

// TestCSIMountFailsAtFirst is of the driver alone: a volume fails as often as its
// context says, and then is mounted.
func TestCSIMountFailsAtFirst(t *testing.T) {
	d := newCSIDriver(t)
	v := d.volume("late", false, map[string]string{"failStage": "2", "failPublish": "1"})
	mkdir(t, d.Path("root/volumes", v.id))
	var got []codes.Code
	for _, call := range []func(context.Context, grpc.ClientConnInterface) error{v.stage, v.stage, v.stage, v.publish, v.publish, v.publish} {
		_, err := csiCall(t, d.Socket, time.Minute, call)
		got = append(got, status.Code(err))
	}
	if want := []codes.Code{codes.Internal, codes.Internal, codes.OK, codes.Internal, codes.OK, codes.OK}; !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
	if want := []string{v.staging, v.target}; !slices.Equal(d.Mounts(), want) {
		t.Errorf("mounted: %q, not %q", d.Mounts(), want)
	}
}
