package host

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func machine(t *testing.T) *Machine {
	return &Machine{Dir: filepath.Join(t.TempDir(), "bin"), LogDir: t.TempDir(), PID: os.Getpid()}
}

// TestInstall: an executable is put where the machine finds it, once, and those that
// nobody runs any more are tidied away.
func TestInstall(t *testing.T) {
	m := machine(t)
	path, err := m.Install()
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.Stat(path)
	if err != nil || first.Mode().Perm() != 0o755 || filepath.Dir(path) != m.Dir {
		t.Fatalf("%s: %v, %v", path, first, err)
	}
	again, err := m.Install()
	second, serr := os.Stat(again)
	if err != nil || serr != nil || again != path || !os.SameFile(first, second) {
		t.Errorf("again: %s, %v, %v", again, err, serr)
	}
	old, runs, foreign := filepath.Join(m.Dir, "grpc-tap-0123456789ab"), filepath.Join(m.Dir, "grpc-tap-ba9876543210"), filepath.Join(m.Dir, "grpc-tap-linux-amd64")
	for _, name := range []string{old, runs, foreign} {
		if err := os.WriteFile(name, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := keep(runs, runs)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Leave()
	killed, written := filepath.Join(m.Dir, ".grpc-tap-1"), filepath.Join(m.Dir, ".grpc-tap-2")
	for _, name := range []string{killed, written} {
		f, err := os.Create(name)
		if err == nil {
			defer f.Close()
		}
		if name == written {
			err = errors.Join(err, flock(f, unix.LOCK_EX))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Tidy(path); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob(m.Dir + "/*")
	want := []string{written, path, runs, foreign}
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("left: %q, want %q", left, want)
	}
}

// TestInstallAgain: what a machine's sudden end has left of an executable is replaced.
func TestInstallAgain(t *testing.T) {
	m := machine(t)
	path, err := m.Install()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range [][]byte{nil, whole[:len(whole)/2], make([]byte, len(whole))} {
		if err := os.WriteFile(path, left, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Install(); err != nil {
			t.Fatal(err)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, whole) {
			t.Errorf("of %d bytes there are %d then: %v", len(left), len(now), err)
		}
	}
}

// TestUnreachable: a node that can't be reached from a pod is said to be so, with what
// the pod lacks.
func TestUnreachable(t *testing.T) {
	m := machine(t)
	if err := m.Reachable(); err != nil {
		t.Error(err)
	}
	m.PID = 1 << 30
	if err := m.Reachable(); err == nil || !strings.Contains(err.Error(), "hostPID") {
		t.Errorf("%v", err)
	}
}

// TestStartAlone: what is started has nothing of our environment, which may hold tokens;
// and a file that is not there is an error.
func TestStartAlone(t *testing.T) {
	m := machine(t)
	t.Setenv("SECRET", "hunter2")
	out := filepath.Join(t.TempDir(), "out")
	if err := m.startAlone("t", []string{"/bin/sh", "-c", "echo [$SECRET] >" + out + ".new; mv " + out + ".new " + out}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(out)
		if err == nil && string(b) == "[]\n" {
			break
		}
		if err == nil || time.Now().After(end) {
			t.Fatalf("%q, %v", b, err)
		}
	}
	if err := m.startAlone("t", []string{"/no/such"}); err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("%v", err)
	}
}

// TestLogs: what is started writes its log where the one before it did, and neither
// writes over the other.
func TestLogs(t *testing.T) {
	m := machine(t)
	old, err := m.log("t")
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	_, _ = old.WriteString("old\n")
	file := filepath.Join(m.LogDir, "t.log")
	said := filepath.Join(m.LogDir, "said")
	if err := m.startAlone("t", []string{"/bin/sh", "-c", "echo new >&2; >" + said}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(said); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it did not run")
		}
	}
	_, _ = old.WriteString("old ends\n")
	all, _ := filepath.Glob(m.LogDir + "/*.log")
	if b, err := os.ReadFile(file); err != nil || string(b) != "new\nold ends\n" || !slices.Equal(all, []string{file}) {
		t.Errorf("%q, %q, %v", all, b, err)
	}
}
