package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// startAlone starts a process in the machine's namespaces and in a session of its own.
// It is still in our cgroup, and has to leave that itself.
func (m *Machine) startAlone(name string, argv []string) error {
	log, err := m.log(name)
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	started := make(chan error, 1)
	go func() {
		// Never unlocked: the thread is in other namespaces from here on, and ends with
		// this function.
		runtime.LockOSThread()
		started <- func() error {
			if err := m.enter(); err != nil {
				return err
			}
			p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
				Dir: "/", Env: []string{}, Files: []*os.File{null, null, log}, Sys: &syscall.SysProcAttr{Setsid: true},
			})
			if err == nil {
				go func() { _, _ = p.Wait() }() // it outlives us, or has said why not
			}
			return err
		}()
	}()
	if err := <-started; err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w; it takes CAP_SYS_ADMIN and CAP_SYS_CHROOT, and no seccomp or AppArmor profile that forbids setns", err)
		}
		return fmt.Errorf("start %s on the node: %w", argv[0], err)
	}
	return nil
}

// namespaces are those that a process of the machine's is in: in those of a pod that
// has gone, it would keep these for as long as it lives. That of mounts is the last:
// it changes what /proc is.
var namespaces = []string{"cgroup", "ipc", "uts", "net", "mnt"}

// enter puts the calling thread in the namespaces of the machine's first process, if
// it is in others.
func (m *Machine) enter() error {
	same, err := m.sameNamespace()
	if same || err != nil {
		return err
	}
	// A thread that shares its working directory with others may not leave alone.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave our own mount namespace: %w", err)
	}
	for _, name := range namespaces {
		if err := m.enterOne(name); err != nil {
			return fmt.Errorf("enter the node's %s namespace: %w", name, err)
		}
	}
	return nil
}

func (m *Machine) enterOne(name string) error {
	ns, err := os.Open(m.proc("ns/" + name))
	if err != nil {
		return err
	}
	defer ns.Close()
	return unix.Setns(int(ns.Fd()), 0)
}

func (m *Machine) sameNamespace() (bool, error) {
	ours, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return false, err
	}
	theirs, err := os.Readlink(m.proc("ns/mnt"))
	if err != nil {
		return false, err
	}
	return ours == theirs, nil
}

// log is the file that a process started alone writes its log to: few lines, about
// what happens to its path. One that another takes the place of still writes there.
func (m *Machine) log(name string) (*os.File, error) {
	dir := m.in(m.LogDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("the log of %s: %w", name, err)
	}
	return os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
}
