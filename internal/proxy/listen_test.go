package proxy

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestListenErrorsNameThePathTheCauseAndTheNextStep(t *testing.T) {
	dir := t.TempDir()
	live := listenUnix(t, filepath.Join(dir, "live"))
	defer live.Close()
	for name, c := range map[string]struct {
		path string
		want []string
	}{
		"no directory": {filepath.Join(dir, "no", "s"), []string{"there is no directory", "mkdir -p " + filepath.Join(dir, "no")}},
		"file":         {file(t, dir, "file"), []string{"regular file", "choose another path"}},
		"directory":    {filepath.Dir(file(t, filepath.Join(dir, "sub"), "f")), []string{"directory already"}},
		"served":       {filepath.Join(dir, "live"), []string{"somebody serves it already (pid ", "end that process"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := listen(c.path, "/none")
			if err == nil {
				_ = l.Close()
				t.Fatal("no error")
			}
			for _, w := range append(c.want, "listen on "+c.path) {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
	if _, err := net.Dial("unix", filepath.Join(dir, "live")); err != nil {
		t.Errorf("the live socket was harmed: %v", err)
	}
}

func file(t *testing.T, dir, name string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// A socket whose process was killed does not stand in the way of a new start.
func TestADeadSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead := listenUnix(t, path)
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	l, err := listen(path, "/none")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	}
}

// Of many that start at once on one path, one serves it and is not displaced.
func TestTwoAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead := listenUnix(t, path)
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	var mu sync.Mutex
	var served []*listener
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if l, err := listen(path, "/none"); err == nil {
				mu.Lock()
				served = append(served, l)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(served) != 1 {
		t.Fatalf("%d serve the path", len(served))
	}
	defer served[0].Close()
	if _, ino, err := identify(path); err != nil || ino != served[0].ino {
		t.Error("the path is not that of who serves it")
	}
}

func TestModeAndOwnerAreTheUpstreams(t *testing.T) {
	dir := t.TempDir()
	up := listenUnix(t, filepath.Join(dir, "up"))
	defer up.Close()
	if err := os.Chmod(filepath.Join(dir, "up"), 0o660); err != nil {
		t.Fatal(err)
	}
	l, err := listen(filepath.Join(dir, "a"), filepath.Join(dir, "up"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	alone, err := listen(filepath.Join(dir, "b"), filepath.Join(dir, "none"))
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	for name, want := range map[string]os.FileMode{"a": 0o660, "b": 0o600} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, expected %v", name, fi.Mode().Perm(), err, want)
		}
	}
	fi, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil || fi.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
		t.Error("the owner differs")
	}
}

func TestRemoveLeavesWhatIsNotOurs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := listen(path, "/none")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other := listenUnix(t, path)
	defer other.Close()
	l.remove()
	if _, err := net.Dial("unix", path); err != nil {
		t.Errorf("another's socket was removed: %v", err)
	}
}

func TestCheckPath(t *testing.T) {
	if err := CheckPath("--listen", "/"+strings.Repeat("x", MaxPath-1)); err != nil {
		t.Errorf("%d bytes: %v", MaxPath, err)
	}
	err := CheckPath("--listen", "/"+strings.Repeat("x", MaxPath))
	if err == nil || !strings.Contains(err.Error(), "108 bytes") || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("108 bytes: %v", err)
	}
}
