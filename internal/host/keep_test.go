package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// kept are so many that run a file that is made for them.
func kept(t *testing.T, n int) (path string, all []*Kept) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "bin", "grpc-tap-0")
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o755)); err != nil {
		t.Fatal(err)
	}
	for range n {
		k, err := keep(path, path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	return path, all
}

// TestLeave: the last to end removes the executable, and the directory; one that was
// installed meanwhile is another's.
func TestLeave(t *testing.T) {
	path, all := kept(t, 2)
	if err := all[0].Leave(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("one of two has ended: %v", err)
	}
	if err := errors.Join(os.WriteFile(path+".new", nil, 0o755), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
	if err := all[1].Leave(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("another was installed: %v", err)
	}
	last, err := keep(path, path)
	if err == nil {
		err = last.Leave()
	}
	if _, stat := os.Stat(filepath.Dir(path)); err != nil || !errors.Is(stat, fs.ErrNotExist) {
		t.Errorf("%v; its directory: %v", err, stat)
	}
}

// TestLeaveTogether: of those that end at once one removes it.
func TestLeaveTogether(t *testing.T) {
	for range 200 {
		path, all := kept(t, 9)
		var ended sync.WaitGroup
		for _, k := range all {
			ended.Go(func() {
				if err := k.Leave(); err != nil {
					t.Error(err)
				}
			})
		}
		ended.Wait()
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("it is left: %v", err)
		}
	}
}
