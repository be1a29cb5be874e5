package lab

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What belongs to a lab is told from the lab's directory alone: it stands in
// the environment of processes, in the mounts of containers, in what CNI and
// the shims keep outside, and in the name of the cgroups.

func procFile(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

func pids() (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func anyProcess(int) bool { return true }

func notShim(pid int) bool {
	comm, _ := os.ReadFile(procFile(pid, "comm"))
	return !bytes.HasPrefix(comm, []byte("containerd-shim"))
}

// marked are the processes that have the lab's marker in their environment, or,
// as grpc-tap's relays with their empty one, a path of the lab's among their
// arguments. Zombies have neither: they are somebody's to wait for, not ours to
// end.
func marked(dir string, which func(pid int) bool) (found []int) {
	env, below := []byte(marker+"="+dir), []byte(dir+"/")
	for _, pid := range pids() {
		if pid == os.Getpid() {
			continue
		}
		ours := has(pid, "environ", func(kv []byte) bool { return bytes.Equal(kv, env) }) ||
			has(pid, "cmdline", func(arg []byte) bool { return bytes.HasPrefix(arg, below) })
		if ours && which(pid) {
			found = append(found, pid)
		}
	}
	return found
}

// has says whether one of the strings of a /proc/PID file is such.
func has(pid int, file string, such func([]byte) bool) bool {
	b, err := os.ReadFile(procFile(pid, file))
	return err == nil && slices.ContainsFunc(bytes.Split(b, []byte{0}), such)
}

// contained are the processes in the lab's containers: in another mount
// namespace than ours, with a root file system made of the lab's layers.
func contained(dir string) (found []int) {
	ours, _ := os.Readlink("/proc/self/ns/mnt")
	for _, pid := range pids() {
		theirs, err := os.Readlink(procFile(pid, "ns/mnt"))
		if err != nil || theirs == ours {
			continue
		}
		mountinfo, _ := os.ReadFile(procFile(pid, "mountinfo"))
		for line := range strings.Lines(string(mountinfo)) {
			if f := strings.Fields(line); len(f) > 4 && f[4] == "/" && strings.Contains(line, "="+dir+"/") {
				found = append(found, pid)
			}
		}
	}
	return found
}

// mountsBelow are the mount points below dir that a process sees, in the
// order in which they were made.
func mountsBelow(pid, dir string) (found []string) {
	mountinfo, _ := os.ReadFile(filepath.Join("/proc", pid, "mountinfo"))
	for line := range strings.Lines(string(mountinfo)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			found = append(found, f[4])
		}
	}
	return found
}

// unmountBelow unmounts all below dir, the last one first.
func unmountBelow(dir string) {
	mounts := mountsBelow("self", dir)
	slices.Reverse(mounts)
	for _, path := range mounts {
		unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
}

var shimSocket = regexp.MustCompile(`/run/containerd/s/[0-9a-f]+`)

// traces are the files that components keep outside the lab's directory: the
// shims' sockets, which their bundles name, and CNI's results, which name the
// network namespace.
func traces(dir string) (found []string) {
	// containerd 1 writes the address alone, 2 writes it into a JSON object.
	bundles, _ := filepath.Glob(filepath.Join(dir, "*/io.containerd.runtime.v2.task/*/*"))
	for _, bundle := range bundles {
		address, _ := os.ReadFile(filepath.Join(bundle, "address"))
		bootstrap, _ := os.ReadFile(filepath.Join(bundle, "bootstrap.json"))
		path := shimSocket.Find(append(address, bootstrap...))
		if _, err := os.Lstat(string(path)); err == nil {
			found = append(found, string(path))
		}
	}
	results, _ := filepath.Glob("/var/lib/cni/results/*")
	for _, file := range results {
		if result, _ := os.ReadFile(file); bytes.Contains(result, []byte(dir+"/")) {
			found = append(found, file)
		}
	}
	return found
}

// hierarchies are the roots of the mounted cgroup trees: one with cgroup v2,
// one a controller with v1.
func hierarchies() []string {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err == nil {
		return []string{root}
	}
	roots, _ := filepath.Glob(root + "/*")
	return roots
}

// cgroupsOf are the cgroups of processes, but for those that we are in: pods
// that were not given a cgroup parent have theirs somewhere else.
func cgroupsOf(pids []int) (dirs []string) {
	ours, _ := os.ReadFile("/proc/self/cgroup")
	for _, pid := range pids {
		theirs, _ := os.ReadFile(procFile(pid, "cgroup"))
		for line := range strings.Lines(string(theirs)) {
			// hierarchy-ID:controllers:path; with v2 controllers is empty
			f := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if len(f) < 3 || f[2] == "/" || strings.Contains(string(ours), line) {
				continue
			}
			for _, root := range hierarchies() {
				dirs = append(dirs, filepath.Join(root, f[2]))
			}
		}
	}
	return dirs
}

// cgroupDirs are the lab's cgroups, each below the one that follows it.
func cgroupDirs(dir string) (dirs []string) {
	for _, root := range hierarchies() {
		filepath.WalkDir(filepath.Join(root, filepath.Base(dir)), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
	}
	slices.Reverse(dirs)
	return dirs
}

// sharedDirs are directories outside a lab that its components make, none
// before one that it is in.
func sharedDirs() []string {
	dirs := []string{
		"/var/lib/cni/results", "/var/lib/cni/networks", "/var/lib/cni",
		"/run/containerd/s", "/run/containerd", "/run/netns", "/opt/containerd",
	}
	for _, root := range hierarchies() {
		dirs = append(dirs, filepath.Join(root, "k8s.io")) // of pods without a cgroup parent
	}
	return dirs
}

func absent(paths []string) (found []string) {
	for _, path := range paths {
		if _, err := os.Lstat(path); os.IsNotExist(err) {
			found = append(found, path)
		}
	}
	return found
}
