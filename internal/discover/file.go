package discover

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// socketFile is a socket's file, held open, so that all that is learned is of
// one file, whatever is renamed over its path meanwhile. It is dialled by the
// descriptor too, which a path of over 107 bytes does not disturb.
type socketFile struct {
	fd    int
	inode [2]uint64 // device and inode as stat(2) has them
	bound boundFile
}

// boundFile is a socket's file as unix_diag names it: the device of its file
// system (in the kernel's own encoding, 20 bits for the minor number) and its
// inode within the kernel, cut to 32 bits. On overlayfs and btrfs these are not
// what stat(2) says.
type boundFile struct{ dev, ino uint32 }

func openSocket(path string, m *mounts) (*socketFile, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		_ = unix.Close(fd)
		return nil, notSocket(path)
	}
	f := &socketFile{fd: fd, inode: [2]uint64{st.Dev, st.Ino}}
	f.bound = boundFile{device(unix.Major(st.Dev), unix.Minor(st.Dev)), uint32(st.Ino)}
	f.refine(m)
	return f, nil
}

func (f *socketFile) close() { _ = unix.Close(f.fd) }

// handle is a path that leads to the file by its descriptor.
func (f *socketFile) handle() string { return fmt.Sprintf("/proc/self/fd/%d", f.fd) }

func device(major, minor uint32) uint32 { return major<<20 | minor }

// refine replaces stat's view of the file by the kernel's own, as far as that
// is told: fdinfo has the inode (since Linux 5.14) and the mount, and mountinfo
// the mount's file system.
func (f *socketFile) refine(m *mounts) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.fd))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(info)) {
		name, value, _ := strings.Cut(line, ":")
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		switch {
		case err != nil:
		case name == "ino":
			f.bound.ino = uint32(n)
		case name == "mnt_id":
			if dev, ok := m.devices[n]; ok {
				f.bound.dev = dev
			}
		}
	}
}

// mounts is what /proc/self/mountinfo says.
type mounts struct {
	devices map[uint64]uint32 // of the file system, by the mount's id
	points  map[string]bool   // paths on which something is mounted
}

// readMounts is empty where nothing can be read: then stat's view has to do.
func readMounts() *mounts {
	m := &mounts{devices: map[uint64]uint32{}, points: map[string]bool{}}
	all, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(all)) {
		m.add(line)
	}
	return m
}

// add takes a line: id, parent, major:minor, root, mount point, and more.
func (m *mounts) add(line string) {
	fields := strings.Fields(line)
	if len(fields) < 5 {
		return
	}
	var major, minor uint32
	id, err := strconv.ParseUint(fields[0], 10, 64)
	if n, _ := fmt.Sscanf(fields[2], "%d:%d", &major, &minor); err != nil || n != 2 {
		return
	}
	m.devices[id] = device(major, minor)
	m.points[unescape.Replace(fields[4])] = true
}

// unescape undoes what mountinfo does to a path.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
