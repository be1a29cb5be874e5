package csidriver

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"
)

// The mounts, through k8s.io/mount-utils: it runs mount(8) and umount(8), and
// knows nothing of deadlines.

// exclusively runs f unless something is being done at path already, which is CSI's ABORTED: the kubelet retries while a
// mount of its last try still hangs. The words are csi-driver-nfs'.
func (d *Driver) exclusively(volumeID, path string, f func() error) error {
	d.mu.Lock()
	if d.busy[path] {
		d.mu.Unlock()
		return status.Errorf(codes.Aborted, "An operation with the given Volume ID %s already exists", volumeID)
	}
	d.busy[path] = true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.busy, path)
		d.mu.Unlock()
	}()
	return f()
}

// source is what a volume's mount is made of.
type source struct {
	from    string // a directory, or server:share
	fstype  string // empty for a directory
	options []string
}

// mountAt mounts a source at a directory, which is made if need be. A mount point is left as it is: CSI calls are
// repeated.
func (d *Driver) mountAt(s source, target string) error {
	_, err := os.Lstat(target)
	made := os.IsNotExist(err)
	if err := os.MkdirAll(target, 0o750); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	if mounted, err := d.mounter.IsMountPoint(target); err != nil || mounted {
		return internal(err)
	}
	err = d.mounter.Mount(s.from, target, s.fstype, s.options)
	if err != nil && made {
		os.Remove(target)
	}
	return internal(err)
}

// unmountAt undoes mountAt, and is content where nothing is mounted or there.
func (d *Driver) unmountAt(target string) error {
	return internal(mount.CleanupMountPoint(target, d.mounter, true))
}

// internal is an error's own text as INTERNAL, as drivers commonly do it.
func internal(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(codes.Internal, err.Error())
}

// endMounts kills the mount(8), umount(8) and helpers that this process has started for one of the paths, and returns how
// many. A helper goes before the mount(8) that waits for it, or it would outlive it as a child of somebody else.
func endMounts(paths map[string]bool) (killed int) {
	if len(paths) == 0 {
		return 0
	}
	pids := descendants(os.Getpid())
	slices.Reverse(pids)
	for _, pid := range pids {
		p, err := os.FindProcess(pid) // a pidfd: it cannot come to mean another process
		if err != nil {
			continue
		}
		cmdline, _ := os.ReadFile(procFile(pid, "cmdline")) // a zombie has none
		for arg := range bytes.SplitSeq(cmdline, []byte{0}) {
			if paths[string(arg)] {
				p.Kill()
				killed++
				break
			}
		}
		p.Release()
	}
	return killed
}

// descendants are the processes below pid, each after its parent.
func descendants(pid int) []int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// "pid (comm) state ppid …", where comm may hold anything
		stat, _ := os.ReadFile(procFile(child, "stat"))
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(f) > 1 {
			if parent, err := strconv.Atoi(f[1]); err == nil {
				children[parent] = append(children[parent], child)
			}
		}
	}
	found := children[pid]
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found
}

func procFile(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}
