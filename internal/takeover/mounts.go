package takeover

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Holder has a file of ours mounted as a file: a pod that did so while the
// socket was taken over holds the relay's inode for good. Comm, Host and At are
// text that others chose: quote them where people read them.
type Holder struct {
	PID  int    // of one process in that mount namespace
	Comm string // its name
	Pod  string // the pod's UID, from its cgroup, if it has one
	Host string // what its /etc/hostname says: mostly the pod's name
	At   string // the mount point, as that process sees it
	File string // the file's present name, or its last one, without directory
	Dir  string // and that directory, within its file system
}

// holders finds mounts, in any mount namespace, of files whose base name
// satisfies match.
func holders(match func(base string) bool) ([]Holder, error) {
	return procDir("/proc").holders(os.Getpid(), match)
}

// procDir is where procfs is mounted.
type procDir string

func (p procDir) of(pid int, name string) string {
	return filepath.Join(string(p), strconv.Itoa(pid), name)
}

func (p procDir) holders(self int, match func(base string) bool) ([]Holder, error) {
	pids, err := p.pids(self)
	if err != nil {
		return nil, fmt.Errorf("look for mounts of the relay's socket: %w", err)
	}
	var found []Holder
	namespaces, mounts := map[string]bool{}, map[string]bool{}
	in := bufio.NewReaderSize(nil, maxLine) // one for all: mountsIn makes none of its own
	for _, pid := range pids {
		ns, err := os.Readlink(p.of(pid, "ns/mnt"))
		// A namespace that we may not ask for its name is read all the same: a
		// mount's id is unique over all of them.
		if namespaces[ns] {
			continue
		}
		f, ferr := os.Open(p.of(pid, "mountinfo"))
		if ferr != nil {
			continue // gone meanwhile: the next process stands for the namespace
		}
		namespaces[ns] = err == nil
		in.Reset(f)
		var here []Holder
		for m := range mountsIn(in) {
			dir, file := path.Split(strings.TrimSuffix(m.root, "//deleted"))
			if mounts[m.id] || !match(file) || slices.ContainsFunc(here, func(h Holder) bool { return h.At == m.at }) {
				continue
			}
			mounts[m.id] = true
			here = append(here, Holder{PID: pid, At: m.at, File: file, Dir: path.Clean(dir)})
		}
		_ = f.Close()
		p.name(here)
		found = append(found, here...)
	}
	return found, nil
}

// pids lists the processes, the lowest first, for it is the one that a
// container began with; ourselves last, so that others stand for a namespace
// that we share.
func (p procDir) pids(self int) ([]int, error) {
	d, err := os.Open(string(p))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil && pid != self {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return append(pids, self), nil
}

// name says of holders, all in one process, who they are.
func (p procDir) name(hs []Holder) {
	if len(hs) == 0 {
		return
	}
	pid := hs[0].PID
	comm, _ := os.ReadFile(p.of(pid, "comm"))
	cgroup, _ := os.ReadFile(p.of(pid, "cgroup"))
	host, pod := hostname(p.of(pid, "root")), podUID(string(cgroup))
	for i := range hs {
		hs[i].Comm, hs[i].Pod, hs[i].Host = strings.TrimSpace(string(comm)), pod, host
	}
}

// hostname reads etc/hostname below root. A container wrote what is there: its
// links must not lead out of it to a file of the host's, and a FIFO or a device
// must not be opened.
func hostname(root string) string {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, "etc/hostname", &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ""
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return ""
	}
	defer f.Close()
	name, _ := io.ReadAll(io.LimitReader(f, 256))
	return strings.TrimSpace(string(name))
}

// inPod matches a pod's cgroup as the kubelet names it with either driver:
// kubepods/burstable/podUID, and kubepods-burstable-podUID.slice where the
// UID's dashes are underscores. Seen from another pod's cgroup namespace the
// first begins at "..". A UID is a UUID, or for static pods 32 hex digits.
var inPod = regexp.MustCompile(`(?:kubepods|/\.\.)(?:[/-]burstable|[/-]besteffort)?[/-]pod([0-9a-f]{8}[0-9a-f_-]{24,28})(?:[/.:\n]|$)`)

// podUID finds the pod in a /proc/PID/cgroup; "": it is in none.
func podUID(cgroup string) string {
	m := inPod.FindStringSubmatch(cgroup)
	if m == nil {
		return ""
	}
	return strings.ReplaceAll(m[1], "_", "-")
}

// mountEntry is a line of mountinfo, see proc_pid_mountinfo(5), as far as we
// need it.
type mountEntry struct {
	id     string
	root   string // what of its file system is mounted; ends in //deleted if it is
	at     string // the mount point
	fsType string
	super  string // the file system's options
}

// maxLine holds two paths of 4 KiB in which every byte is escaped, and more.
const maxLine = 64 << 10

// mountsIn reads a mountinfo line by line. Of a line longer than maxLine the
// end is lost: options of an overlay with hundreds of layers, never a path.
func mountsIn(r io.Reader) iter.Seq[mountEntry] {
	return func(yield func(mountEntry) bool) {
		in, rest := bufio.NewReaderSize(r, maxLine), false
		for {
			line, more, err := in.ReadLine()
			if err != nil {
				return
			}
			if m, ok := parseMount(string(line)); ok && !rest && !yield(m) {
				return
			}
			rest = more
		}
	}
}

func parseMount(line string) (m mountEntry, ok bool) {
	f := strings.SplitN(line, " ", 7)
	if len(f) < 7 {
		return m, false
	}
	// Any number of optional fields, then a dash.
	_, fsys, ok := strings.Cut(" "+f[6], " - ")
	t := strings.SplitN(fsys, " ", 3)
	if !ok || len(t) < 3 {
		return m, false
	}
	return mountEntry{id: f[0], root: unoctal(f[3]), at: unoctal(f[4]), fsType: t[0], super: t[2]}, true
}

// unoctal undoes the kernel's escapes of a path: a backslash and three octal
// digits for space, tab, newline and backslash.
func unoctal(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
