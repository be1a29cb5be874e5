package host

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Kept is an executable that a process runs, and a shared lock on it for as long: of
// those that run it the last to end has the lock to itself, and removes it. Who is
// started from it at that very moment runs on from what has no name any more, or is
// not started: in both cases the agent installs it again and starts another.
type Kept struct {
	path string
	file *os.File
}

// KeepSelf keeps our own executable, which Install put on the machine.
func KeepSelf() (*Kept, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return keep(path, "/proc/self/exe") // there may be another at path by now
}

func keep(path, open string) (*Kept, error) {
	f, err := os.Open(open)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_SH); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Kept{path, f}, nil
}

// Leave removes the executable, unless another process keeps it.
func (k *Kept) Leave() error {
	defer k.file.Close()
	// Where this fails, the shared lock is gone (flock(2)): of those that leave at once, the
	// last to come here gets it.
	if flock(k.file, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	ours, err := k.file.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(k.path); err != nil || !os.SameFile(ours, there) {
		return nil // it was removed, and perhaps installed again
	}
	if err := os.Remove(k.path); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(k.path)) // where it is empty
	return nil
}

// removeUnkept removes a file, unless a process keeps it, or writes it.
func removeUnkept(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	return os.Remove(path)
}

func flock(f *os.File, how int) error { return unix.Flock(int(f.Fd()), how) }
