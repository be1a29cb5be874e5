package takeover

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func siteServer(t *testing.T, path string) *server {
	t.Helper()
	s := &server{path: path, mode: 0o660}
	if err := errors.Join(s.listen(), s.chmod()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s
}

// siteDir is one whose sockets' paths have less than 108 bytes.
func siteDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func tracesOf(t *testing.T, path string) Traces {
	t.Helper()
	tr, err := Trace(path)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestTraceOfATakeoversLife(t *testing.T) {
	dir := siteDir(t)
	s := siteServer(t, filepath.Join(dir, "s.sock"))
	p, err := Open(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if tr := tracesOf(t, s.path); tr.Any() || tr.Astray {
		t.Errorf("untouched: %+v", tr)
	}

	l, err := p.lock("")
	if err != nil {
		t.Fatal(err)
	}
	if tr := tracesOf(t, s.path); tr.By != os.Getpid() || tr.Taken || tr.Lock != filepath.Join(dir, ".s.sock.grpc-tap.lock") || tr.Locked != nil {
		t.Errorf("locked: %+v", tr)
	}
	held, err := p.takeFake(s)
	if err != nil {
		t.Fatal(err)
	}
	defer held.close()
	if tr := tracesOf(t, s.path); tr.By != os.Getpid() || !tr.Taken || tr.Astray {
		t.Errorf("taken: %+v", tr)
	}

	// The relay and its guard are killed: the lock is nobody's, and its file is left.
	_ = l.file.Close()
	_ = held.lis.Close()
	if tr := tracesOf(t, s.path); tr.By != 0 || !tr.Taken || !tr.Astray || tr.Lock == "" {
		t.Errorf("killed: %+v", tr)
	}
	// Somebody removes the socket that does not answer.
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	if tr := tracesOf(t, s.path); tr.Taken || !tr.Astray {
		t.Errorf("killed and removed: %+v", tr)
	}
	_ = s.close()
	if tr := tracesOf(t, s.path); tr.Taken || tr.Astray || len(tr.Left) != 1 {
		t.Errorf("the server is dead too: %+v", tr)
	}
	if _, err := p.Undo(false); err != nil {
		t.Fatal(err)
	}
	if tr := tracesOf(t, s.path); tr.Taken || len(tr.Left) != 0 || tr.Lock == "" || tr.By != 0 {
		t.Errorf("only its lock file is left: %+v", tr)
	}
	if _, err := Trace(filepath.Join(dir, "none", "s.sock")); err == nil {
		t.Error("no error where there is no directory")
	}
}

func TestSurveyRefusesWhatMustNotBeTaken(t *testing.T) {
	dir := siteDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := siteServer(t, filepath.Join(dir, "s.ttrpc"))
	dead := siteServer(t, filepath.Join(dir, "dead"))
	_ = dead.close()
	for path, want := range map[string]string{
		file:                          "is no socket",
		s.path:                        "speaks ttrpc",
		dead.path:                     "connection refused",
		filepath.Join(dir, "nothing"): "there is nothing",
	} {
		if _, err := Survey(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; wanted %q", path, err, want)
		}
	}
}

func TestSurvey(t *testing.T) {
	s := siteServer(t, filepath.Join(siteDir(t), "s.sock"))
	got, err := Survey(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if got.UID != os.Geteuid() || got.GID != os.Getegid() || got.Server != os.Getpid() ||
		got.Write != nil || got.Mounted || got.Full || got.FileSystem != "" {
		t.Errorf("%+v", got)
	}
}

// In a mount namespace of this goroutine's thread, which ends with it.
func TestSurveyOfUnfitPlaces(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
			t.Log("can't mount:", err)
			return
		}
		surveyUnfit(t, t.TempDir())
	}()
	<-done
}

func surveyUnfit(t *testing.T, dir string) {
	must := func(err error) {
		if err != nil {
			t.Error(err)
			runtime.Goexit()
		}
	}
	survey := func(path string) Site {
		s, err := Survey(path)
		must(err)
		return s
	}
	must(unix.Mount("none", dir, "tmpfs", 0, "nr_inodes=3"))
	must(unix.Chdir(dir)) // this thread's alone: the path may be long
	s := &server{path: "s.sock"}
	must(s.listen())
	defer s.close()
	path := filepath.Join(dir, s.path)
	if got := survey(path); got.Full || got.Mounted || got.Write != nil || !got.Recognised {
		t.Errorf("fit: %+v", got)
	}
	must(os.WriteFile("last", nil, 0o600))
	if got := survey(path); !got.Full {
		t.Errorf("full: %+v", got)
	}
	must(unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if got := survey(path); got.Write != unix.EROFS {
		t.Errorf("read-only: %+v", got)
	}
	must(unix.Mount(path, path, "", unix.MS_BIND, ""))
	if got := survey(path); !got.Mounted {
		t.Errorf("a mount point: %+v", got)
	}
}

func TestAbilitiesOfThisKernel(t *testing.T) {
	dir := t.TempDir()
	for _, a := range Abilities(dir) {
		if a.Err != nil && a.Call != "name_to_handle_at" { // which some sandboxes forbid
			t.Errorf("%s: %v", a.Call, a.Err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
	for _, a := range Abilities(filepath.Join(dir, "none")) {
		if needs := slices.Contains([]string{"renameat2", "inotify", "name_to_handle_at"}, a.Call); needs != (a.Err != nil) {
			t.Errorf("%s where there is no directory: %v", a.Call, a.Err)
		}
	}
}

func TestDeaths(t *testing.T) {
	dir := t.TempDir()
	if all, err := Deaths(dir); err != nil || all != nil {
		t.Errorf("%v, %v where nobody died", all, err)
	}
	at := time.Date(2026, 8, 1, 12, 0, 0, 5, time.UTC)
	for i := range 2 {
		if err := RecordDeath(dir, "/run/a b.sock", 7+i, at.Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(deathsFile(dir), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("not a time pid 9 on /x\n\n2026")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	want := []Death{{at, "pid 7 on /run/a b.sock"}, {at.Add(time.Minute), "pid 8 on /run/a b.sock"}}
	if all, err := Deaths(dir); err != nil || !slices.Equal(all, want) {
		t.Errorf("%v, %v; wanted %v", all, err, want)
	}
	if _, err := Deaths(filepath.Join(dir, "deaths")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestMountedRelays(t *testing.T) {
	p := fakeProc(t, map[string]string{
		"5/mountinfo":   "1 0 0:1 / / rw - ext4 x rw\n",
		"100/ns/mnt":    "->mnt:[2]",
		"100/comm":      "app\n",
		"100/mountinfo": "4 1 0:1 /r/.s.grpc-tap-aside-2//deleted /a\\040b rw - ext4 x rw\n",
		// Mounted before the takeover, and the server's own: it is beside its path for now.
		"200/ns/mnt":    "->mnt:[3]",
		"200/mountinfo": "6 1 0:1 /r/.s.grpc-tap-4 /a rw - ext4 x rw\n7 1 0:1 /r/s.grpc-tap-4//deleted /b rw - ext4 x rw\n",
	})
	got, err := p.holders(5, func(base string) bool { return strings.Contains(base, mark+"-aside-") })
	want := []Holder{{PID: 100, Comm: "app", At: "/a b", File: ".s.grpc-tap-aside-2", Dir: "/r"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("found  %+v, %v\nwanted %+v", got, err, want)
	}
}
