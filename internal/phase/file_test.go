package phase

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFile(t *testing.T) {
	dir := t.TempDir()
	f := File{Path: filepath.Join(dir, "pods"), Boot: boot}
	if all, err := f.Load(); all != nil || err != nil {
		t.Errorf("of no file: %v, %v", all, err)
	}
	want := []Epoch{{Pod: podNamed("web"), N: 2, Gone: true, Turn: 1, Begin: midnight, Told: true}, {Pod: podNamed("db"), Stopping: midnight}}
	for range 2 {
		if err := f.Save(want); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := f.Load(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := (File{Path: f.Path, Boot: "another"}).Load(); got != nil || err != nil {
		t.Errorf("of another boot: %v, %v", got, err)
	}
	entries, _ := os.ReadDir(dir)
	if info, err := os.Stat(f.Path); err != nil || len(entries) != 1 || info.Mode().Perm() != 0o600 {
		t.Errorf("%v in the directory, %v", entries, err)
	}
	if err := os.WriteFile(f.Path, []byte(`{"version":1,"boot`), 0o600); err != nil {
		t.Fatal(err)
	}
	tracker, err := New(boot, f)
	if tracker == nil || err == nil || !strings.Contains(err.Error(), f.Path) {
		t.Errorf("of half a file: %v", err)
	}
	f.Path = filepath.Join(dir, "none", "pods")
	if err := f.Save(want); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
	if id, err := BootID(); len(id) != 36 || err != nil {
		t.Errorf("boot id %q, %v", id, err)
	}
}

// A file that is not one of these is somebody's: it is left alone.
func TestFileOfAnother(t *testing.T) {
	for _, content := range []string{"root:x:0:0:root:/root:/bin/bash\n", `{"method":"Version","version":7}`, "[]", "\x00"} {
		f := File{Path: filepath.Join(t.TempDir(), "calls.jsonl"), Boot: boot}
		if err := os.WriteFile(f.Path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		tracker, err := New(boot, f)
		if tracker == nil || err == nil || !strings.Contains(err.Error(), f.Path) {
			t.Errorf("%q: %v", content, err)
		}
		startPod(tracker, 1, 1, midnight)
		if err := tracker.Save(); err == nil {
			t.Errorf("%q: written over", content)
		}
		if got, err := os.ReadFile(f.Path); string(got) != content || err != nil {
			t.Errorf("%q became %q, %v", content, got, err)
		}
	}
	// An empty one is what a full disk or a crash leaves, or who made it first.
	f := File{Path: filepath.Join(t.TempDir(), "pods"), Boot: boot}
	if err := os.WriteFile(f.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Load(); err != nil {
		t.Error(err)
	}
	if err := f.Save(nil); err != nil {
		t.Error(err)
	}
	// Nor is a pipe waited for.
	f.Path = filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(f.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Load(); err == nil {
		t.Error("a pipe is a file")
	}
}

// failsOnce is a Store whose first Save fails.
type failsOnce struct {
	kept
	saves int
}

func (f *failsOnce) Save(all []Epoch) error {
	if f.saves++; f.saves == 1 {
		return errors.New("no space left on device")
	}
	return f.kept.Save(all)
}

// Only what has changed is saved, and what could not be is tried again.
func TestSave(t *testing.T) {
	store := &failsOnce{}
	tracker, _ := New(boot, store)
	save := func(saves int, fails bool) {
		t.Helper()
		if err := tracker.Save(); (err != nil) != fails || store.saves != saves {
			t.Errorf("error %v after %d saves", err, store.saves)
		}
	}
	save(0, false)
	startPod(tracker, 1, 1, midnight)
	save(1, true)
	save(2, false)
	tracker.Place(record("1", "+1", "ExecSync", "web", "app@c1"))
	save(2, false)
	startPod(tracker, 2, 1, midnight)
	save(3, false)
	if len(store.epochs) != 2 || store.epochs[1].Begin.IsZero() {
		t.Errorf("%+v", store.epochs)
	}
}

// The taps of several sockets place at once, while phases are told and saved.
func TestAtOnce(t *testing.T) {
	tracker, _ := New(boot, File{Path: filepath.Join(t.TempDir(), "pods"), Boot: boot})
	var placing sync.WaitGroup
	for socket := range 4 {
		placing.Go(func() {
			for i := range 50 {
				startPod(tracker, 100*socket+i, 2, midnight)
				tracker.Ran(podNamed(fmt.Sprint(i)), "s", "app", true)
			}
		})
	}
	told := 0
	for i := range 20 {
		ended, _ := tracker.Tick(midnight.Add(time.Duration(i) * time.Second))
		told += len(ended)
		if err := tracker.Save(); err != nil {
			t.Error(err)
		}
	}
	placing.Wait()
	ended, _ := tracker.Close(midnight.Add(time.Hour))
	if told+len(ended) != 200 {
		t.Errorf("%d told of 200", told+len(ended))
	}
}
