package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MaxPath is the longest path of a Unix socket, in bytes: sun_path of unix(7)
// less its final zero byte.
const MaxPath = 107

// listener is a bound path, and which file it is, so that nobody else's is
// ever removed.
type listener struct {
	*net.UnixListener
	path     string
	dev, ino uint64
}

// listen binds path with the upstream's mode and owner, so that who may dial
// the one may dial the other. A dead socket in its place, left by a process
// that was killed, is replaced; anything else there is an error.
func listen(path, upstream string) (*listener, error) {
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer unlock()
	if err := clear(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// Bound closed to all but us; opened below to whom the upstream is open.
	old := syscall.Umask(0o177)
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w%s", path, cause(err), advice(err))
	}
	// Close must not unlink by name: the file there may be another's by then.
	lis.SetUnlinkOnClose(false)
	l := &listener{UnixListener: lis, path: path}
	if l.dev, l.ino, err = identify(path); err != nil {
		_ = lis.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	_ = l.imitate(upstream)
	return l, nil
}

// is says whether path leads to this listener, over whatever links.
func (l *listener) is(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Dev == l.dev && st.Ino == l.ino
}

// remove takes the path away, if it is still ours.
func (l *listener) remove() {
	if dev, ino, err := identify(l.path); err == nil && dev == l.dev && ino == l.ino {
		_ = os.Remove(l.path)
	}
}

// lockDir keeps two relays from replacing the same dead socket at once. The
// lock is on the directory itself: it leaves no file.
func lockDir(dir string) (unlock func(), err error) {
	// Anybody who may read the directory may lock it: not worth waiting long.
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no directory %s; create it first: mkdir -p %s", dir, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open directory %s: %w%s", dir, cause(err), advice(err))
	}
	if err := lockFile(d); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("lock directory %s: %w; another process holds it (lslocks names it): end that, or choose another directory", dir, err)
	}
	return func() { _ = d.Close() }, nil
}

// lockWait is how long another of our processes may hold a directory.
const lockWait = time.Second

// lockFile locks an open file, and waits for who holds it, but not long.
func lockFile(f *os.File) error {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockWait / 200) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return err
		}
	}
}

// clear makes sure that nothing is at path, removing at most a dead socket.
func clear(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%w%s", cause(err), advice(err))
	case fi.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("there is a %s already; choose another path, or remove it if it is not needed", kind(fi.Mode()))
	}
	c, err := Dial(path)
	if err == nil {
		pid, exe := Peer(c)
		_ = c.Close()
		who := ""
		if pid != 0 {
			who = fmt.Sprintf(" (pid %d, %s)", pid, exe)
		}
		return fmt.Errorf("somebody serves it already%s; choose another path, or end that process", who)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("there is a socket already, and whether it is alive can't be told: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the dead socket there: %w%s", cause(err), advice(err))
	}
	return nil
}

func kind(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "regular file"
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "symbolic link"
	}
	return "file that is no socket"
}

func advice(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "; run grpc-tap as root, or choose a directory that you may write to"
	}
	return ""
}

// imitateSoon imitates the upstream as soon as there is one.
func (l *listener) imitateSoon(ctx context.Context, upstream string) {
	t := time.NewTicker(imitateEvery)
	defer t.Stop()
	for !l.imitate(upstream) {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// imitate gives the path the mode and owner of the upstream's socket, if there
// is one: until then, and where we may not give files away, it is open to us
// alone. It goes by a descriptor of our own socket, so that nothing put in its
// place meanwhile is touched. False: it is worth another try.
func (l *listener) imitate(upstream string) (done bool) {
	var st, own unix.Stat_t
	if unix.Stat(upstream, &st) != nil {
		return false
	}
	fd, err := unix.Open(l.path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if unix.Fstat(fd, &own) != nil || own.Dev != l.dev || own.Ino != l.ino {
		return true // the path is another's by now
	}
	if unix.Fchownat(fd, "", int(st.Uid), int(st.Gid), unix.AT_EMPTY_PATH) != nil {
		return true // its group's rights are not another group's
	}
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), st.Mode&0o777) == nil
}

// Backlog takes the clients that have dialled and were not accepted, until
// there is none. It is for after the path was removed, when none can follow.
func Backlog(lis *net.UnixListener) iter.Seq[*net.UnixConn] {
	return func(yield func(*net.UnixConn) bool) {
		raw, err := lis.SyscallConn()
		for err == nil {
			fd, failed := -1, error(nil)
			err = raw.Control(func(at uintptr) {
				fd, _, failed = unix.Accept4(int(at), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			})
			switch {
			case err != nil, errors.Is(failed, unix.EAGAIN):
				return
			case errors.Is(failed, unix.EINTR), errors.Is(failed, unix.ECONNABORTED):
				continue
			case failed != nil:
				return
			}
			f := os.NewFile(uintptr(fd), "client")
			c, cerr := net.FileConn(f)
			_ = f.Close()
			if u, ok := c.(*net.UnixConn); cerr == nil && ok && !yield(u) {
				return
			}
		}
	}
}

func identify(path string) (dev, ino uint64, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, 0, err
	}
	return st.Dev, st.Ino, nil
}

// CheckPath says whether path can name a Unix socket. flag names it in errors.
func CheckPath(flag, path string) error {
	switch {
	case path == "":
		return fmt.Errorf("%s: give a socket's path", flag)
	case len(path) > MaxPath:
		return fmt.Errorf("%s: %s has %d bytes, and a Unix socket's path at most %d; choose a shorter one, or a symbolic link to its directory",
			flag, path, len(path), MaxPath)
	}
	return nil
}

// SameSocket says whether two paths lead to one socket, over links too: a
// relay that listened on its own upstream would call itself.
func SameSocket(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	fa, erra := os.Stat(a)
	fb, errb := os.Stat(b)
	return erra == nil && errb == nil && os.SameFile(fa, fb)
}
