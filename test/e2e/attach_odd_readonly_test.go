package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAttachReadOnly attaches where nothing can be made.
func TestAttachReadOnly(t *testing.T) {
	dir := tmpfs(t, "size=64k")
	path := filepath.Join(dir, "cri.sock")
	serve(t, path)
	remount(t, dir, unix.MS_RDONLY)
	undisturbed(t, path, func() {
		attachFails(t, 1, []string{path}, path+": ", "read-only file system", dir+" is read-only: make it writable")
		if out, err := tap(t, "restore", path); err != nil {
			t.Errorf("restore, with nothing to do: %v\n%s", err, out)
		}
	})
}

// unwritable are ways for a directory to become so that nothing in it can be
// renamed any more, and to mend it.
var unwritable = map[string]struct {
	dir         func(t *testing.T) string
	spoil, mend func(t *testing.T, dir string)
}{
	"immutable": {
		func(t *testing.T) string { return tmpfs(t, "size=64k") },
		func(t *testing.T, dir string) { immutable(t, dir, true) },
		func(t *testing.T, dir string) { immutable(t, dir, false) },
	},
	"remounted read-only": {
		func(t *testing.T) string { return tmpfs(t, "size=64k") },
		func(t *testing.T, dir string) { remount(t, dir, unix.MS_RDONLY) },
		func(t *testing.T, dir string) { remount(t, dir, 0) },
	},
}

const immutableFlag = 0x10 // FS_IMMUTABLE_FL of linux/fs.h

// immutable is chattr +i: root can't change the directory either.
func immutable(t *testing.T, dir string, is bool) {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	flags, err := unix.IoctlGetInt(int(d.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		flags &^= immutableFlag
		if is {
			flags |= immutableFlag
		}
		err = unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	if err != nil {
		t.Skipf("this machine cannot run it: no immutable directories on tmpfs (Linux 6.6), or not allowed: %v", err)
	}
}

// TestAttachCannotGiveBack attaches, and makes it impossible to give the path
// back. It is said, and the path goes on being served; once it is possible
// again, restore gives it back, and the relay ends.
func TestAttachCannotGiveBack(t *testing.T) {
	for name, u := range unwritable {
		t.Run(name, func(t *testing.T) {
			dir := u.dir(t)
			path := filepath.Join(dir, "cri.sock")
			serve(t, path)
			a := attach(t, path)
			l := runtimeTraffic(t, path)
			l.more(20)
			u.spoil(t, dir)
			said := a.failsToGiveBack()
			if want := "say `grpc-tap restore " + path + "`"; !strings.Contains(said, want) {
				t.Errorf("it does not say %q:\n%s", want, said)
			}
			l.more(50)
			answers(t, path)
			if out, err := tap(t, "restore", path); err == nil || !strings.Contains(out, path) {
				t.Errorf("restore, where nothing can be renamed: %v\n%s", err, out)
			}
			answers(t, path)
			u.mend(t, dir)
			if out, err := tap(t, "restore", path); err != nil {
				t.Errorf("restore: %v\n%s", err, out)
			}
			l.more(50)
			l.end()
			answers(t, path)
			a.processesEnd()
			a.isBack()
		})
	}
}

// failsToGiveBack tells attach to end, which it can't well.
func (a *attached) failsToGiveBack() string {
	a.t.Helper()
	a.stopped = true
	if err := a.Process.Stop(eventuallyTime); err == nil || err.Error() != "exit status 1" {
		a.t.Errorf("attach, told to end, ended with %v, not exit status 1", err)
	}
	return a.Said()
}

// TestAttachRelayKilledUnwritable kills the relay where its guard can't give the
// path back: the guard serves it until somebody can.
func TestAttachRelayKilledUnwritable(t *testing.T) {
	dir := tmpfs(t, "size=64k")
	path := filepath.Join(dir, "cri.sock")
	serve(t, path)
	a := attach(t, path)
	immutable(t, dir, true)
	a.kill(a.relay, unix.SIGKILL)
	if said := a.fails(); !strings.Contains(said, "say `grpc-tap restore "+path+"`") {
		t.Errorf("it is not said what to do:\n%s", said)
	}
	answers(t, path)
	immutable(t, dir, false)
	if out, err := tap(t, "restore", path); err != nil {
		t.Errorf("restore: %v\n%s", err, out)
	}
	answers(t, path)
	a.isBack()
	nobodyStays(t)
}
