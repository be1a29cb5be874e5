// Package host starts our own processes on the machine itself, from wherever we are:
// from an executable file of the machine's, in the namespaces of its first process
// and outside of our container, so that whatever ends us does not end them.
//
// Its rule: it starts and installs, and nothing of what it started is its to end.
package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is the one that we run on.
type Machine struct {
	// Dir is where executables are put, as the machine itself calls it.
	Dir string
	// LogDir is where what is started writes its log, where there is no systemd.
	LogDir string
	// PID is a process whose root directory and mount namespace are the machine's: 1,
	// but for tests. In a container that takes the host's pid namespace.
	PID int
}

// proc is a file of that process in procfs.
func (m *Machine) proc(name string) string { return fmt.Sprintf("/proc/%d/%s", m.PID, name) }

// in is a path of the machine's as we reach it.
func (m *Machine) in(path string) string { return filepath.Join(m.proc("root"), path) }

// Reachable says why nothing can be started on the machine; nil: it can.
func (m *Machine) Reachable() error {
	const unreachable = "the node can't be reached from here: "
	if m.PID == 1 && os.Getpid() == 1 {
		return errors.New(unreachable + "pid 1 is this process, and not the node's first; run grpc-tap in the host's pid namespace (hostPID: true)")
	}
	if _, err := os.Readlink(m.proc("ns/mnt")); err != nil {
		return fmt.Errorf(unreachable+"%w; run grpc-tap in the host's pid namespace (hostPID: true), with CAP_SYS_PTRACE", err)
	}
	return nil
}

// Install puts our own executable where the machine can start it, under a name that
// tells it from any other version, and returns that. It is not written twice, unless
// what is there is not all of it: a machine's sudden end may leave that.
func (m *Machine) Install() (path string, err error) {
	ours, err := digest("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("read our own executable: %w", err)
	}
	dir, err := m.prepare()
	path = filepath.Join(dir, "grpc-tap-"+ours[:12])
	if err == nil {
		err = m.put(path, ours)
	}
	if err != nil {
		return "", fmt.Errorf("put our executable in %s on the node, where its relays are started from: %w", m.Dir, m.cause(err))
	}
	return path, nil
}

// put copies our executable to path, unless it is there.
func (m *Machine) put(path, ours string) error {
	if there, err := digest(m.in(path)); err == nil && there == ours {
		return nil
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	return m.copyTo(path, self)
}

// prepare makes the directory of executables, where that can be one. It returns what
// the machine calls it that has no symbolic links in it: what runs from there is known
// by that.
func (m *Machine) prepare() (real string, err error) {
	if err := os.MkdirAll(m.in(m.Dir), 0o755); err != nil {
		return m.Dir, err
	}
	dir, err := os.OpenFile(m.in(m.Dir), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return m.Dir, err
	}
	defer dir.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err == nil && st.Flags&unix.ST_NOEXEC != 0 {
		return m.Dir, fmt.Errorf("the file system of %s is mounted noexec; %s", m.Dir, elsewhere)
	}
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
}

const elsewhere = "choose another place by --host-dir (hostDir in the file of settings)"

// cause is an error without the name of the file, which is temporary, or another
// than the machine's own.
func (m *Machine) cause(err error) error {
	if path := new(fs.PathError); errors.As(err, &path) {
		err = path.Err
	}
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("the file system of %s is read-only; %s", m.Dir, elsewhere)
	}
	return err
}

func digest(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return hex.EncodeToString(sum.Sum(nil)), err
}

func (m *Machine) copyTo(path string, from io.Reader) error {
	to, err := os.CreateTemp(m.in(m.Dir), ".grpc-tap-")
	if err != nil {
		return err
	}
	err = flock(to, unix.LOCK_EX) // Tidy removes one that nobody holds: who wrote it was killed
	if err == nil {
		_, err = io.Copy(to, from)
	}
	if err = errors.Join(err, to.Chmod(0o755), to.Close()); err == nil {
		err = os.Rename(to.Name(), m.in(path))
	}
	if err != nil {
		_ = os.Remove(to.Name())
	}
	return err
}

// Tidy removes executables of ours that no relay keeps, but for the one to keep, and
// those that were never written to their end.
func (m *Machine) Tidy(keep string) error {
	var errs []error
	for _, name := range []string{"grpc-tap-" + strings.Repeat("[0-9a-f]", 12), ".grpc-tap-*"} { // what else is there is not ours
		all, err := filepath.Glob(m.in(filepath.Join(filepath.Dir(keep), name)))
		errs = append(errs, err)
		for _, path := range all {
			if filepath.Base(path) != filepath.Base(keep) {
				errs = append(errs, removeUnkept(path))
			}
		}
	}
	return errors.Join(errs...)
}

// Start starts a process on the machine: as a transient unit of systemd's where there
// is one, else in a session of its own, with a log of its own. unit is the unit's name
// without its suffix, log the file's, and what it is for description. argv[0] is a path
// of the machine's.
func (m *Machine) Start(ctx context.Context, unit, log, description string, argv []string) error {
	if !m.systemdRuns() {
		return m.startAlone(log, argv)
	}
	return m.startUnit(ctx, unit, description, argv)
}
