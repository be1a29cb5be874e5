package identity

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A volume whose file system does not answer is not looked at.
func TestReadVolumesBesideAHungMount(t *testing.T) {
	dir := t.TempDir()
	pv := filepath.Join(dir, "pods", "u1", "volumes/kubernetes.io~csi/pv-1")
	mount := filepath.Join(pv, "mount")
	if err := os.MkdirAll(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pv, "vol_data.json"), []byte(`{"driverName":"nfs","specVolID":"pv-1","volumeHandle":"v1"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this machine has no FUSE: %v", err)
	}
	// Nobody reads what it is asked.
	if err := unix.Mount("hung", mount, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())); err != nil {
		t.Skipf("this machine lets nobody mount: %v", err)
	}
	defer func() { fuse.Close(); _ = unix.Unmount(mount, unix.MNT_DETACH) }()
	m := New()
	done := make(chan error, 1)
	go func() { done <- m.ReadVolumes(dir) }()
	select {
	case err := <-done:
		if err != nil || len(m.volumes.entries) != 1 {
			t.Errorf("%d volumes, %v", len(m.volumes.entries), err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits for the file system")
	}
}
