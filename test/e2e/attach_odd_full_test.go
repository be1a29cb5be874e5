package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// fillInodes makes files until there is room for no more.
func fillInodes(t testing.TB, dir string) {
	t.Helper()
	for i := 0; ; i++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint("f", i)))
		if errors.Is(err, unix.ENOSPC) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}

// fillBlocks writes until there is room for no more.
func fillBlocks(t testing.TB, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for buf := make([]byte, 512); err == nil; {
		_, err = f.Write(buf)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// TestAttachFull attaches where there is no room for a file, or not for all of
// the few that it makes.
func TestAttachFull(t *testing.T) {
	for _, full := range []struct {
		name string
		fill func(t *testing.T, dir string)
		says string // "": it works
	}{
		{"no inode", func(t *testing.T, dir string) { fillInodes(t, dir) }, "create the lock file"},
		{"one inode", func(t *testing.T, dir string) { fillInodes(t, dir); free(t, dir, 1) }, "bind a socket beside it"},
		{"two inodes", func(t *testing.T, dir string) { fillInodes(t, dir); free(t, dir, 2) }, ""},
		{"no block", func(t *testing.T, dir string) { fillBlocks(t, dir) }, "write the lock file"},
	} {
		t.Run(full.name, func(t *testing.T) {
			dir := tmpfs(t, "size=64k,nr_inodes=32")
			path := filepath.Join(dir, "cri.sock")
			serve(t, path)
			full.fill(t, dir)
			undisturbed(t, path, func() {
				if full.says == "" {
					attach(t, path).detach()
					return
				}
				attachFails(t, 1, []string{path}, path+": ", full.says, "no space left on device", "free some space (df -h -i "+dir+")")
			})
		})
	}
}

// free removes some of the files that fill a directory.
func free(t testing.TB, dir string, n int) {
	t.Helper()
	for i := range n {
		if err := os.Remove(filepath.Join(dir, fmt.Sprint("f", i))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAttachFills fills the disk while attached: giving the path back needs no
// room, whoever does it.
func TestAttachFills(t *testing.T) {
	for name, back := range map[string]func(a *attached){
		"detach": func(a *attached) { a.detach() },
		"restore": func(a *attached) {
			if out, err := tap(t, "restore", a.Listen); err != nil {
				t.Errorf("restore: %v\n%s", err, out)
			}
			a.fails()
		},
		"guard": func(a *attached) {
			a.kill(a.relay, unix.SIGKILL)
			a.fails()
		},
	} {
		for fs, make := range map[string]func(t *testing.T) string{
			"tmpfs": func(t *testing.T) string { return tmpfs(t, "size=64k,nr_inodes=32") },
			"ext4":  ext4,
		} {
			t.Run(name+" on "+fs, func(t *testing.T) {
				dir := make(t)
				path := filepath.Join(dir, "cri.sock")
				serve(t, path)
				a := attach(t, path)
				fillBlocks(t, dir)
				fillInodes(t, dir) // on ext4 until the directory itself needs another block
				answers(t, path)
				back(a)
				a.isBack()
				answers(t, path)
				nobodyStays(t)
			})
		}
	}
}

// ext4 makes and mounts a small file system with blocks of 1 KiB.
func ext4(t *testing.T) (dir string) {
	l := lab.New(t)
	needRoot(t, "it mounts")
	image := l.Write("ext4.img", strings.Repeat("\x00", 1<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-b", "1024", "-m", "0", "-N", "128", "-O", "^has_journal", image).CombinedOutput(); err != nil {
		t.Skipf("this machine cannot run it: mkfs.ext4: %v %s", err, out)
	}
	dir = l.Path("ext4")
	mkdir(t, dir)
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("this machine cannot run it: no loop device: %v %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}
