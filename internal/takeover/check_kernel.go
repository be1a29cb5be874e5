package takeover

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Ability is something that a takeover asks of the kernel.
type Ability struct {
	Call string // the system call
	For  string // what it is needed for
	Min  string // the first kernel that has it
	// Err is why it fails; nil: it was tried, and works.
	Err error
}

// Abilities tries each on files of our own in dir, which is to be empty.
func Abilities(dir string) []Ability {
	return []Ability{
		{"renameat2", "a path is exchanged with RENAME_EXCHANGE, so that it is never absent", "3.15", tryExchange(dir)},
		{"pidfd_open", "guard and relay watch each other, and the server, with PIDFD_NONBLOCK", "5.10", tryPidfd()},
		{"memfd_create", "the guard sees by shared memory whether the relay moves", "3.17", tryMemfd()},
		{"inotify", "a restart of the server is seen by it", "2.6.13", tryInotify(dir)},
		{"name_to_handle_at", "a socket is told by it from a later one with the same inode number", "2.6.39", tryHandle(dir)},
	}
}

func tryMemfd() error {
	m, err := newProgress()
	if err == nil {
		m.close()
	}
	return err
}

func tryPidfd() error {
	fd, err := unix.PidfdOpen(os.Getpid(), unix.PIDFD_NONBLOCK)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

func tryInotify(dir string) error {
	p, err := Open(filepath.Join(dir, "none"))
	if err != nil {
		return err
	}
	defer p.Close()
	w, err := p.watchName()
	if err != nil {
		return err
	}
	w.close()
	return nil
}

// tryHandle does not mind a file system that has no handles: a socket's own is
// asked by Survey.
func tryHandle(dir string) error {
	_, _, err := unix.NameToHandleAt(unix.AT_FDCWD, dir, 0)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EOVERFLOW) {
		return nil
	}
	return err
}

// tryExchange exchanges two sockets, and looks whether they are.
func tryExchange(dir string) error {
	p, err := Open(filepath.Join(dir, "a"))
	if err != nil {
		return err
	}
	defer p.Close()
	const kind = unix.S_IFSOCK | 0o600
	for _, name := range []string{"a", "b"} {
		if err := unix.Mknodat(p.fd(), name, kind, 0); err != nil {
			return fmt.Errorf("make a socket in %s to try it on: %w", dir, err)
		}
		defer func() { _ = unix.Unlinkat(p.fd(), name, 0) }()
	}
	was, err := p.look("a")
	if err != nil {
		return err
	}
	defer was.close()
	if err := p.exchange("a", "b"); err != nil {
		return err
	}
	is, err := p.look("b")
	if err != nil {
		return err
	}
	defer is.close()
	if was == nil || is == nil || was.id != is.id {
		return fmt.Errorf("it reports success in %s, and nothing was exchanged", dir)
	}
	return nil
}
