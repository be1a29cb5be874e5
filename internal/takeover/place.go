package takeover

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// Place is the path of a socket: its directory, held open, and its name there.
// All that is done to it goes by the open directory, so that it stays the same
// one whatever is renamed above it, and so that names may be longer than
// sun_path's 107 bytes.
type Place struct {
	path string // as resolved: no link leads elsewhere
	base string
	dir  *os.File
	// upstream: the path is grpc-tap's own, and a link to this wherever no relay
	// serves it (link.go). "": it is its server's.
	upstream string
	// step is called before each system call that changes the directory or
	// decides about it. Tests act for a runtime there. Nil: nothing is.
	step func(call string)
	// wait is time.Sleep where it is nil.
	wait func(time.Duration)
}

var errElsewhere = errors.New("it lies in another mount namespace; run grpc-tap in that: nsenter --mount --target PID")

// Resolve follows all links of a path. One such as /proc/PID/root leads elsewhere
// than its text says, to what may have no path here.
func Resolve(path string) (string, error) {
	meant, merr := os.Stat(path)
	real, err := filepath.EvalSymlinks(path)
	if merr != nil {
		return real, err
	}
	if found, ferr := os.Stat(real); err != nil || ferr != nil || !os.SameFile(meant, found) {
		return "", fmt.Errorf("%s: %w", path, errElsewhere)
	}
	return real, nil
}

// Open finds the place that path leads to, over links too, unless it is a link of
// ours that a relay has been at.
func Open(path string) (*Place, error) {
	p, err := openOwn(path)
	if err != nil {
		return nil, err
	}
	if touched, terr := p.touched(); terr != nil || touched {
		return p, nil
	}
	real, err := Resolve(p.path)
	switch {
	case errors.Is(err, errElsewhere):
		p.Close()
		return nil, err
	case err != nil || real == p.path:
		return p, nil // what is there may be absent: its runtime is down
	}
	p.Close()
	return openOwn(real)
}

// openOwn finds the place of path itself, whatever lies there.
func openOwn(path string) (*Place, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	real, err := Resolve(filepath.Dir(abs))
	switch {
	case err == nil:
		abs = filepath.Join(real, filepath.Base(abs))
	case errors.Is(err, errElsewhere):
		return nil, err
	}
	dir, base := filepath.Split(abs)
	d, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no directory %s", path, dir)
	case err != nil:
		return nil, fmt.Errorf("%s: open its directory: %w%s", path, cause(err), advice(err))
	}
	return &Place{path: abs, base: base, dir: d}, nil
}

// touched says whether something of ours lies beside the path.
func (p *Place) touched() (bool, error) {
	names, err := p.neighbours()
	if err != nil || len(names) > 0 {
		return len(names) > 0, err
	}
	_, err = os.Lstat(p.at(p.lockName()))
	return err == nil, nil
}

// Close lets go of the directory.
func (p *Place) Close() { _ = p.dir.Close() }

// moved says whether the path's directory is no longer the one held open.
func (p *Place) moved() bool {
	var now, held unix.Stat_t
	return unix.Stat(filepath.Dir(p.path), &now) != nil || unix.Fstat(p.fd(), &held) != nil ||
		now.Dev != held.Dev || now.Ino != held.Ino
}

func (p *Place) fd() int { return int(p.dir.Fd()) }

// at is a path of the name in the held directory, short enough for sun_path.
func (p *Place) at(name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", p.fd(), name) }

func (p *Place) before(call string) {
	if p.step != nil {
		p.step(call)
	}
}

// id is which file it is. The inode's number is not enough: ext4 gives a freed
// one to the very next file, and a restarted driver's socket would then pass for
// that of a relay that was killed. generation differs between the two; it is
// taken from the file's handle, and 0 where the file system has none.
type id struct {
	dev, ino   uint64
	generation uint32
}

func (i id) String() string { return fmt.Sprintf("%x-%x", i.ino, i.generation) }

// file is what a name leads to. Its descriptor (O_PATH) keeps the inode from
// being freed and used again, and can be dialled whatever becomes of its name.
type file struct {
	id
	*os.File
	mode     uint32 // of stat(2), type included
	uid, gid int
	target   string // of a symbolic link
}

func (f *file) socket() bool { return f != nil && f.mode&unix.S_IFMT == unix.S_IFSOCK }

// proc is a path of the file itself, under no name of its own.
func (f *file) proc() string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func (f *file) close() {
	if f != nil {
		_ = f.Close()
	}
}

// alive says whether somebody listens there. Only a refusal says no: a backlog
// that is full is alive, and where we have no descriptor left, or no right to
// connect, it can't be told.
func (f *file) alive() (bool, error) {
	if !f.socket() {
		return false, nil
	}
	c, err := f.dial()
	switch {
	case err == nil:
		_ = c.Close()
		return true, nil
	case errors.Is(err, unix.EAGAIN):
		return true, nil
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EPROTOTYPE):
		return false, nil
	}
	return false, fmt.Errorf("whether the server of %s lives can't be told: connect: %w%s", f.Name(), cause(err), advice(err))
}

// dial connects to it. A link, which no descriptor leads through, is followed by
// its text.
func (f *file) dial() (*net.UnixConn, error) {
	if f.link() {
		return proxy.Dial(f.target)
	}
	return proxy.Dial(f.proc())
}

// look opens what is at name; nil and no error where nothing is.
func (p *Place) look(name string) (*file, error) {
	p.before("look " + name)
	fd, err := unix.Openat(p.fd(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", p.name(name), err)
	}
	f := &file{File: os.NewFile(uintptr(fd), name)}
	if err := f.identify(); err != nil {
		f.close()
		return nil, fmt.Errorf("look at %s: %w", p.name(name), err)
	}
	return f, nil
}

func (f *file) identify() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	f.mode, f.uid, f.gid = st.Mode, int(st.Uid), int(st.Gid)
	f.dev, f.ino = st.Dev, st.Ino
	var err error
	if f.link() {
		if f.target, err = readlink(int(f.Fd())); err != nil {
			return err
		}
	}
	f.generation, err = generation(int(f.Fd()))
	return err
}

// generation differs between files that have one inode number after the other.
// Where there is no handle (overlayfs), it is when the file was made; 0: neither.
// Any other error is one: a file would have another name tomorrow, or from
// another container.
func generation(fd int) (uint32, error) {
	h, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
	switch {
	case err == nil:
		return fnv32(h.Bytes()), nil
	case !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EOVERFLOW):
		return 0, fmt.Errorf("name_to_handle_at: %w; a seccomp profile forbids it? Allow it: without it files can't be told apart", err)
	}
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st) != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0, nil
	}
	return fnv32(fmt.Appendf(nil, "%d.%d", st.Btime.Sec, st.Btime.Nsec)), nil
}

// fnv32 is FNV-1a.
func fnv32(p []byte) uint32 {
	sum := uint32(2166136261)
	for _, b := range p {
		sum = (sum ^ uint32(b)) * 16777619
	}
	return sum
}

func (p *Place) name(name string) string { return filepath.Join(filepath.Dir(p.path), name) }

// Names beside the path. They begin with a dot, since the kubelet takes every
// other socket in plugins_registry for a plugin's.
const mark = ".grpc-tap"

func (p *Place) neighbour(suffix string) string { return "." + p.base + mark + suffix }

// newName is a name that nobody else uses, short enough to bind whatever the
// path's is. One that is left (by a kill between two system calls) is dead.
func newName() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return mark + "-new-" + hex.EncodeToString(b)
}

// asideName is the last name of a file that is removed. It tells, in the
// mountinfo of whoever has it mounted, which one that was.
func (p *Place) asideName(f id) string { return p.neighbour("-aside-" + f.String()) }

// neighbours lists what of ours lies beside the path, the lock file excepted.
func (p *Place) neighbours() ([]string, error) {
	d, err := os.Open(p.at("."))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", filepath.Dir(p.path), cause(err))
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", filepath.Dir(p.path), cause(err))
	}
	var ours []string
	for _, n := range names {
		if strings.HasPrefix(n, p.neighbour("-")) {
			ours = append(ours, n)
		}
	}
	return ours, nil
}

func (p *Place) exchange(a, b string) error {
	p.before("exchange")
	return unix.Renameat2(p.fd(), a, p.fd(), b, unix.RENAME_EXCHANGE)
}

// rename never replaces anything.
func (p *Place) rename(from, to string) error {
	p.before("rename")
	return unix.Renameat2(p.fd(), from, p.fd(), to, unix.RENAME_NOREPLACE)
}

// remove deletes name if it is still the file that was looked at. It is taken
// aside first: what a name leads to may change between a look and an unlink,
// what was taken aside can't. false: it was another, and is where it was.
func (p *Place) remove(name string, was id) (bool, error) {
	aside := p.asideName(was)
	err := p.rename(name, aside)
	if errors.Is(err, unix.EEXIST) { // left by one that was killed right here
		aside = p.neighbour("-aside-" + newName())
		err = p.rename(name, aside)
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		return true, nil
	case name != p.base && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.ENAMETOOLONG)):
		return p.removeInPlace(name, was)
	case err != nil:
		return false, fmt.Errorf("remove %s: %w", p.name(name), err)
	}
	f, err := p.look(aside)
	if err != nil {
		return false, err
	}
	defer f.close()
	if f != nil && f.id == was {
		p.before("unlink")
		if err := unix.Unlinkat(p.fd(), aside, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return false, fmt.Errorf("remove %s: %w", p.name(aside), err)
		}
		return true, nil
	}
	if err := p.rename(aside, name); err != nil && !errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("put %s back to %s: %w", p.name(aside), p.name(name), err)
	}
	return false, nil
}

// removeInPlace is remove where there can be no other name. It is for names of
// ours, which no server uses.
func (p *Place) removeInPlace(name string, was id) (bool, error) {
	f, err := p.look(name)
	if f == nil || err != nil {
		return err == nil, err
	}
	defer f.close()
	if f.id != was {
		return false, nil
	}
	p.before("unlink")
	if err := unix.Unlinkat(p.fd(), name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("remove %s: %w", p.name(name), err)
	}
	return true, nil
}

// cause is the system's own word within an error whose other words our
// messages say better.
func cause(err error) error {
	var no unix.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

func advice(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "; run grpc-tap as root"
	}
	return ""
}
