package takeover

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// leaveHierarchy tries each mount of h, the one that shows most of it first.
func (f fate) leaveHierarchy(h string, at cgroupPath, mounts []cgroupMount) error {
	var errs []error
	highest := 0 // of those that failed
	for _, m := range mounts {
		if !m.shows(h) {
			continue
		}
		if at.covers(m.root) {
			return errors.Join(errs...) // we are at the top of what is left to try
		}
		switch err := f.moveTo(h, m); {
		case err != nil:
			errs, highest = append(errs, err), max(highest, m.root.up)
		case m.root.up < highest:
			return errors.Join(errs...)
		default:
			return nil
		}
	}
	if len(errs) == 0 && !at.covers(cgroupPath{}) {
		return errors.New("it is mounted from its root nowhere that we can see; mount it, or run grpc-tap on the host")
	}
	return errors.Join(errs...)
}

// moveTo goes to the cgroup that m shows as its root, or else to pid 1's. A
// cgroup v2 whose children have limits holds no processes of its own, unless it
// is the machine's root: what a nested node (kind, k3d) sees as its root
// refuses them, and its pid 1 is a level below.
func (f fate) moveTo(h string, m cgroupMount) error {
	err := f.move(h, m.dir, m.root)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	first, ferr := f.cgroups(1)
	one, ok := first[h]
	if ferr != nil || !ok || one.up != m.root.up {
		return err
	}
	return f.move(h, filepath.Join(m.dir, filepath.Join(one.down...)), one)
}

// move goes to the cgroup at dir. A write that was accepted is not trusted: it
// counts that we are where we wanted to.
func (f fate) move(h, dir string, want cgroupPath) error {
	join := f.join
	if join == nil {
		join = joinCgroup
	}
	if err := join(dir, f.pid); err != nil {
		return err
	}
	ours, err := f.cgroups(f.pid)
	if err != nil {
		return err
	}
	if !ours[h].covers(want) {
		return fmt.Errorf("%s took our pid, and yet we are in cgroup %s", filepath.Join(dir, "cgroup.procs"), ours[h])
	}
	return nil
}

func joinCgroup(dir string, pid int) error {
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(pid))
	return errors.Join(err, f.Close())
}

// enterCgroupNamespace puts the calling thread in pid's cgroup namespace. A
// cgroup v2 mounted with nsdelegate, as systemd does, lets nobody write a
// process out of the namespace that the file was opened in.
func (f fate) enterCgroupNamespace(pid int) error {
	ns, err := os.Open(f.proc.of(pid, "ns/cgroup"))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("enter the cgroup namespace of pid %d: %w", pid, err)
	}
	return nil
}

// cgroupMount is a mount of a hierarchy's root, or of what of it a cgroup
// namespace or a container's bind mount shows as such.
type cgroupMount struct {
	dir     string // where it is, for us
	root    cgroupPath
	options []string // controllers and name; nil: cgroup v2
}

func (m cgroupMount) shows(h string) bool {
	if h == "" || m.options == nil {
		return h == "" && m.options == nil
	}
	return !slices.ContainsFunc(strings.Split(h, ","), func(c string) bool { return !slices.Contains(m.options, c) })
}

// cgroupMounts finds them in our mount namespace and in pid 1's: the highest
// first, of equals ours.
func (f fate) cgroupMounts() []cgroupMount {
	all := append(f.mountsOf(f.pid, ""), f.mountsOf(1, f.proc.of(1, "root"))...)
	slices.SortStableFunc(all, func(a, b cgroupMount) int { return b.root.up - a.root.up })
	return all
}

// mountsOf leaves out a mount whose root lies beside the way up from here: a
// container's own cgroup, as the host names it.
func (f fate) mountsOf(pid int, root string) (all []cgroupMount) {
	in, err := os.Open(f.proc.of(pid, "mountinfo"))
	if err != nil {
		return nil
	}
	defer in.Close()
	for e := range mountsIn(in) {
		m := cgroupMount{dir: filepath.Join(root, e.at), root: parseCgroupPath(e.root)}
		if e.fsType == "cgroup" {
			m.options = strings.Split(e.super, ",")
		}
		if len(m.root.down) == 0 && (e.fsType == "cgroup" || e.fsType == "cgroup2") {
			all = append(all, m)
		}
	}
	return all
}

// cgroups reads where a process is: by hierarchy, "" for cgroup v2.
func (f fate) cgroups(pid int) (map[string]cgroupPath, error) {
	b, err := os.ReadFile(f.proc.of(pid, "cgroup"))
	if err != nil {
		return nil, fmt.Errorf("read the cgroups of pid %d: %w", pid, err)
	}
	all := map[string]cgroupPath{}
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(f) == 3 {
			all[f[1]] = parseCgroupPath(strings.TrimSuffix(f[2], " (deleted)"))
		}
	}
	return all, nil
}

func title(h string) string {
	if h == "" {
		return "cgroup v2"
	}
	return "cgroup hierarchy " + h
}

// cgroupPath is a cgroup as the kernel names it to us: so many levels up from
// our cgroup namespace's root, and from there down.
type cgroupPath struct {
	up   int
	down []string
}

func parseCgroupPath(s string) (p cgroupPath) {
	for name := range strings.SplitSeq(s, "/") {
		switch name {
		case "":
		case "..":
			p.up++
		default:
			p.down = append(p.down, name)
		}
	}
	return p
}

func (p cgroupPath) String() string {
	if p.up > 0 && len(p.down) == 0 {
		return strings.Repeat("/..", p.up)
	}
	return strings.Repeat("/..", p.up) + "/" + strings.Join(p.down, "/")
}

// covers says whether p is q or above it. The kernel goes up no further than
// it must: what is fewer levels up is elsewhere, unless p is on the way itself.
func (p cgroupPath) covers(q cgroupPath) bool {
	if p.up != q.up {
		return p.up > q.up && len(p.down) == 0
	}
	return len(p.down) <= len(q.down) && slices.Equal(p.down, q.down[:len(p.down)])
}

// root says whether p is the hierarchy's root as we see it, which nothing ends.
func (p cgroupPath) root() bool { return p.up == 0 && len(p.down) == 0 }
