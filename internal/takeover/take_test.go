package takeover

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// grpcServer serves at path until the test ends.
func grpcServer(t *testing.T, path string) *grpc.Server {
	t.Helper()
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	go func() { _ = s.Serve(lis) }()
	t.Cleanup(s.Stop)
	return s
}

func place(t *testing.T, path string) *Place {
	t.Helper()
	p, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "take-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func nothing(*taken) error { return nil }

// Who may dial the one may dial the other: mode, owner and label are the
// original's, and the original has its own still when it is given back.
func TestOursIsAsTheServers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to give files away")
	}
	path := filepath.Join(shortDir(t), "s.sock")
	grpcServer(t, path)
	const label = "system_u:object_r:container_var_run_t:s0\x00"
	if err := errors.Join(os.Chmod(path, 0o620), os.Lchown(path, 12, 34)); err != nil {
		t.Fatal(err)
	}
	labelled := unix.Lsetxattr(path, "security.selinux", []byte(label), 0) == nil
	if !labelled {
		t.Log("no label can be set on this machine")
	}
	p := place(t, path)
	held, err := p.take(t.Context(), nothing)
	if err != nil {
		t.Fatal(err)
	}
	defer held.close()
	same := func(when string) {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Mode&0o777 != 0o620 || st.Uid != 12 || st.Gid != 34 {
			t.Errorf("%s: mode %o, owner %d:%d, %v", when, st.Mode&0o777, st.Uid, st.Gid, err)
		}
		buf := make([]byte, 100)
		if n, err := unix.Lgetxattr(path, "security.selinux", buf); labelled && (err != nil || string(buf[:n]) != label) {
			t.Errorf("%s: label %q, %v", when, buf[:max(n, 0)], err)
		}
	}
	same("taken")
	if s, err := held.state(); s != isHeld || err != nil {
		t.Errorf("state %v, %v", s, err)
	}

	// What is done to the path meanwhile is kept.
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := held.follow(); err != nil {
		t.Fatal(err)
	}
	if r, err := p.Undo(false); r != Restored || err != nil {
		t.Errorf("undo: %v, %v", r, err)
	}
	if fi, err := os.Lstat(path); err != nil || fi.Mode().Perm() != 0o666 {
		t.Errorf("given back: %v, %v", fi.Mode(), err)
	}
}

// The test has a variable of that name.
const isHeld = held

// What is no gRPC server is refused, and nothing is left of the attempt.
func TestRefused(t *testing.T) {
	dir := shortDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	grpcServer(t, at("containerd.sock.ttrpc"))
	grpcServer(t, at(".x.sock.grpc-tap-1-2"))
	mute, err := net.Listen("unix", at("mute.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("dead.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	web, err := net.Listen("unix", at("web.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	go func() {
		for {
			c, err := web.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = c.Close()
		}
	}()
	if err := errors.Join(os.WriteFile(at("file"), nil, 0o600), os.Mkdir(at("directory"), 0o700)); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadDir(dir)
	for name, want := range map[string]string{
		"containerd.sock.ttrpc": "ttrpc",
		".x.sock.grpc-tap-1-2":  "grpc-tap's own",
		"mute.sock":             "does not speak HTTP/2",
		"dead.sock":             "does not answer: connection refused",
		"web.sock":              "does not speak HTTP/2",
		"file":                  "is no socket",
		"directory":             "is no socket",
		"absent.sock":           "there is nothing",
	} {
		_, err := place(t, at(name)).take(t.Context(), nothing)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), at(name)) {
			t.Errorf("%s: %v; want it named, and %q", name, err, want)
		}
	}
	if after, _ := os.ReadDir(dir); len(after) != len(before) {
		t.Errorf("left in the directory: %v", after)
	}
}

// A restart between the look and the exchange: the new socket stays.
func TestTakeLosesToARestart(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	grpcServer(t, path)
	p := place(t, path)
	_, err := p.take(t.Context(), func(*taken) error {
		if err := os.Remove(path); err != nil {
			return err
		}
		grpcServer(t, path)
		return nil
	})
	if !errors.Is(err, errChanged) {
		t.Errorf("take: %v", err)
	}
	f, err := p.look(p.base)
	if lives, _ := f.alive(); err != nil || !lives {
		t.Errorf("the path does not lead to the new server: %v", err)
	}
	f.close()
	if left, _ := p.neighbours(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// What others put beside a path neither gets on it nor keeps it from its server.
func TestStrangersBesideThePath(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to be two users")
	}
	path := filepath.Join(shortDir(t), "s.sock")
	grpcServer(t, path)
	p := place(t, path)
	server, err := p.look(p.base)
	if err != nil {
		t.Fatal(err)
	}
	defer server.close()

	// A user's socket by the name that would say that root's live one is ours.
	theirs := p.name(p.neighbour("-" + server.String()))
	grpcServer(t, theirs)
	if err := os.Lchown(theirs, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Undo(true); err == nil || !strings.Contains(err.Error(), theirs) {
		t.Errorf("undo: %v; want it to name %s", err, theirs)
	}
	if now, err := p.look(p.base); err != nil || now.id != server.id {
		t.Errorf("the path is another's: %v", err)
	} else {
		now.close()
	}
	if err := os.Remove(theirs); err != nil {
		t.Fatal(err)
	}

	// A directory, which can't be removed as a socket is.
	if err := os.Mkdir(p.name(p.neighbour("-0")), 0o700); err != nil {
		t.Fatal(err)
	}
	held, err := p.take(t.Context(), nothing)
	if err != nil {
		t.Fatal(err)
	}
	defer held.close()
	if r, err := p.Undo(false); r != Restored || err != nil {
		t.Errorf("undo: %v, %v", r, err)
	}
}

// What somebody puts over the path, and is no socket, is his: it stays, as it would if
// the path had never been taken, though its server lives.
func TestPutOverThePath(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"link": func(path string) error { return os.Symlink("/run/other.sock", path) },
		"fifo": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "x.sock")
			grpcServer(t, path)
			p := place(t, path)
			p.wait = func(time.Duration) {}
			held, err := p.take(t.Context(), nothing)
			if err != nil {
				t.Fatal(err)
			}
			defer held.close()
			if err := errors.Join(put(path+".new"), os.Rename(path+".new", path)); err != nil {
				t.Fatal(err)
			}
			was, _ := os.Lstat(path)
			if r, err := p.Undo(false); r != Cleaned || err != nil {
				t.Errorf("undo: %v, %v", r, err)
			}
			if now, err := os.Lstat(path); err != nil || !os.SameFile(was, now) {
				t.Errorf("there is another one: %v, %v", now, err)
			}
			if left, _ := p.neighbours(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	grpcServer(t, path)
	p := place(t, path)
	l, err := p.lock("")
	if err != nil {
		t.Fatal(err)
	}
	if pid, _ := p.Holder(); pid != os.Getpid() {
		t.Errorf("held by %d, not %d", pid, os.Getpid())
	}
	if _, err := place(t, path).lock(""); err == nil || !strings.Contains(err.Error(), "another grpc-tap is on it (pid ") {
		t.Errorf("a second lock: %v", err)
	}
	l.release()
	if pid, _ := p.Holder(); pid != 0 {
		t.Errorf("released, and held by %d", pid)
	}
	again, err := p.lock("")
	if err != nil {
		t.Fatal(err)
	}
	_ = again.file.Close() // as if its holders were killed
	p.removeStaleLock()
	if _, err := os.Lstat(p.name(p.lockName())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock file stays: %v", err)
	}
}

func TestBreaker(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	now := time.Now()
	die := func(ago ...time.Duration) {
		t.Helper()
		for _, a := range ago {
			if err := RecordDeath(dir, "/run/x.sock", 42, now.Add(-a)); err != nil {
				t.Fatal(err)
			}
		}
	}
	holds := func(want bool) {
		t.Helper()
		if err := Tripped(dir); (err != nil) != want {
			t.Errorf("tripped: %v; want it: %v", err, want)
		}
	}
	holds(false)
	die(30*time.Minute, 21*time.Minute, 12*time.Minute)
	holds(false)
	die(-30 * time.Hour) // the clock was set back since
	holds(false)
	if err := Reset(dir); err != nil {
		t.Fatal(err)
	}
	die(12*time.Minute, 11*time.Minute, 3*time.Minute)
	holds(true) // it stays so however long ago
	if err := Reset(dir); err != nil {
		t.Fatal(err)
	}
	holds(false)
	if err := Disabled(dir); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "disable"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Disabled(dir); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "disable")) {
		t.Errorf("disabled: %v", err)
	}
}
