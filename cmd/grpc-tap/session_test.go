package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// A kubelet's directory whose file system does not answer does not hold the end up.
func TestASessionEndsBesideAHungMount(t *testing.T) {
	kubelet := t.TempDir()
	pods := filepath.Join(kubelet, "pods")
	if err := os.Mkdir(pods, 0o755); err != nil {
		t.Fatal(err)
	}
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this machine has no FUSE: %v", err)
	}
	// Nobody reads what it is asked.
	if err := unix.Mount("hung", pods, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())); err != nil {
		t.Skipf("this machine lets nobody mount: %v", err)
	}
	defer func() { fuse.Close(); _ = unix.Unmount(pods, unix.MNT_DETACH) }()
	var show showFlags
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	show.add(flags)
	if err := flags.Parse([]string{"-o", "none"}); err != nil {
		t.Fatal(err)
	}
	s := session{show: &show, stdout: io.Discard, stderr: io.Discard, kubelets: []string{kubelet}, names: []string{"/none"}}
	var left time.Time
	s.meanwhile = func(context.Context) error {
		time.Sleep(time.Second) // it reads by now
		left = time.Now()
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- s.run(t.Context()) }()
	select {
	case err := <-done:
		if took := time.Since(left); err != nil || took > goodbye {
			t.Errorf("%v after %v", err, took)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the file system")
	}
}
