package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// OwnListener is a socket for processes of grpc-tap's own: in a directory that its
// owner alone may enter. It takes the place of what is at its path at once.
type OwnListener struct {
	*net.UnixListener
	dir         *os.File
	first, base string // its names in dir: before Open, and after
	dev, ino    uint64
	shut        sync.Once
}

// ListenOwn listens under a name of its own beside path, whose directory it makes
// where there is none. network is unix or unixpacket.
func ListenOwn(network, path string) (_ *OwnListener, err error) {
	l := &OwnListener{base: filepath.Base(path)}
	l.first = fmt.Sprintf(".grpc-tap-%d-%p", os.Getpid(), l) // short, whatever the path's name is
	if l.dir, err = ownDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	_ = os.Remove(l.at(l.first)) // of a process that had our pid
	old := syscall.Umask(0o177)
	l.UnixListener, err = net.ListenUnix(network, &net.UnixAddr{Name: l.at(l.first), Net: network})
	syscall.Umask(old)
	if err != nil {
		_ = l.dir.Close()
		return nil, cause(err)
	}
	l.SetUnlinkOnClose(false)
	if l.dev, l.ino, err = identify(l.at(l.first)); err != nil {
		l.Shut()
		return nil, err
	}
	return l, nil
}

// at is short enough for sun_path, whatever the directory's path is.
func (l *OwnListener) at(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", l.dir.Fd(), name)
}

// Open puts the socket at its path, in the place of what is there.
func (l *OwnListener) Open() error {
	defer l.alone()()
	if err := os.Rename(l.at(l.first), l.at(l.base)); err != nil {
		return cause(err)
	}
	return nil
}

// Shut removes the socket, where it is still that, and closes it.
func (l *OwnListener) Shut() {
	l.shut.Do(func() {
		l.remove()
		_ = l.UnixListener.Close()
		_ = l.dir.Close()
	})
}

func (l *OwnListener) remove() {
	defer l.alone()()
	for _, name := range []string{l.first, l.base} {
		if dev, ino, err := identify(l.at(name)); err == nil && dev == l.dev && ino == l.ino {
			_ = os.Remove(l.at(name))
		}
	}
}

// alone locks the directory until the function that it returns is called: no
// other process of ours puts its socket at the path between a look at what is
// there and the removal of that. One that stands still in there is not waited for.
func (l *OwnListener) alone() (done func()) {
	_ = lockFile(l.dir)
	return func() { _ = unix.Flock(int(l.dir.Fd()), unix.LOCK_UN) }
}

// ownDir opens a directory that nobody but us may enter, and makes it where there
// is none.
func ownDir(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open its directory: %w%s", cause(err), advice(err))
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		_ = dir.Close()
		return nil, fmt.Errorf("raw bytes leave by it, so that its directory must be ours alone: chown %d %s && chmod 700 %[2]s", os.Geteuid(), path)
	}
	return dir, nil
}
