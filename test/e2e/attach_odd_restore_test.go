package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestRestoreLive restores the path of a session that is alive: it notices, and
// ends by itself, and no call fails.
func TestRestoreLive(t *testing.T) {
	n := newFakeNode(t)
	undisturbed(t, n.cri, func() {
		a := attach(t, n.cri)
		held, during := steadyOn(t, n.cri), watchEvents(t, n.cri, containerEvents)
		out, err := tap(t, "restore", n.cri)
		if want := n.cri + ": its path is given back\n"; err != nil || out != want {
			t.Errorf("restore says %q, not %q: %v", out, want, err)
		}
		if said := a.fails(); !strings.Contains(said, "giving up: somebody gave the path back") {
			t.Errorf("it does not say why it ended:\n%s", said)
		}
		during.runs(t, "with the restore")
		during.hangUp()
		held.end()
		a.isBack()
	})
}

// TestRestoreNothing restores what is not taken: a path, several, and the whole
// node.
func TestRestoreNothing(t *testing.T) {
	n := newFakeNode(t)
	undisturbed(t, n.cri, func() {
		out, err := tap(t, "restore", n.cri, n.csi)
		if want := n.cri + ": it is not taken\n" + n.csi + ": it is not taken\n"; err != nil || out != want {
			t.Errorf("restore says %q, not %q: %v", out, want, err)
		}
		empty := lab.New(t).Path("kubelet")
		if out, err := tap(t, "restore", "--kubelet-dir", empty); err != nil || !strings.Contains(out, "nothing of grpc-tap's was found") {
			t.Errorf("restore, without a path: %v\n%s", err, out)
		}
	})
	dir := lab.New(t).Dir
	out, err := tap(t, "restore", dir+"/missing/cri.sock")
	fails(t, 1, out, err, dir+"/missing/cri.sock: there is no directory "+dir+"/missing")
}

// TestRestoreOthersFiles restores beside files of others that are named nearly
// as ours: none is touched.
func TestRestoreOthersFiles(t *testing.T) {
	n := newFakeNode(t)
	dir := filepath.Dir(n.cri)
	for _, name := range []string{".cri.sock", ".cri.sock.grpc-tap", ".cri.sock2.grpc-tap-1-2", "cri.sock.grpc-tap-1-2"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	undisturbed(t, n.cri, func() {
		if out, err := tap(t, "restore", n.cri); err != nil {
			t.Errorf("restore: %v\n%s", err, out)
		}
		attach(t, n.cri).detach()
	})
}

// TestRestoreAll kills relay, guard and attach on every driver of a node:
// restore without a path finds them.
func TestRestoreAll(t *testing.T) {
	k := newKubeletDir(t, "a.example.com", "b.example.com")
	pathA, pathB := k.drivers["a.example.com"], k.drivers["b.example.com"]
	wasA, wasB := lookAt(t, pathA), lookAt(t, pathB)
	attachTarget(t, "csi", []string{"--kubelet-dir", k.dir}, pathA, pathB).killAll()
	out, err := tap(t, "restore", "--kubelet-dir", k.dir)
	for _, path := range []string{pathA, pathB} {
		if !strings.Contains(out, path+": its path is given back\n") {
			t.Errorf("restore does not say that it gave %s back: %v\n%s", path, err, out)
		}
	}
	if nowA, nowB := lookAt(t, pathA), lookAt(t, pathB); nowA != wasA || nowB != wasB {
		t.Errorf("the paths were %+v and %+v, and are %+v and %+v", wasA, wasB, nowA, nowB)
	}
	l := driverTraffic(t, pathA)
	l.more(20)
	l.end()
}

// killAll kills attach and all that it started, so that none of them acts: no
// process of ours runs any more when the first dies.
func (a *attached) killAll() {
	a.t.Helper()
	a.stopped = true
	killAtOnce(a.t, running(binary)...)
	<-a.Done()
	nobodyStays(a.t)
}

// killAtOnce kills processes when none of them runs any more. Until the thread
// that a SIGSTOP has woken runs, the others of its process go on.
func killAtOnce(t testing.TB, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range pids {
		stop(t, pid)
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAttachMendsRelayAndGuardKilled kills relay and guard at once: attach
// itself gives the path back, and says so.
func TestAttachMendsRelayAndGuardKilled(t *testing.T) {
	n := newFakeNode(t)
	a := attach(t, n.cri)
	killAtOnce(t, a.relay, a.guard)
	if said := a.fails(); !strings.Contains(said, "died: signal: killed") || !strings.Contains(said, n.cri+": its path is given back") {
		t.Errorf("it does not say what happened:\n%s", said)
	}
	answers(t, n.cri)
	a.isBack()
}

// crashable serves a runtime at path that leaves its socket there when it is
// stopped, as one that is killed does.
func crashable(t testing.TB, path string) *fakecri.Runtime {
	t.Helper()
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	lis.SetUnlinkOnClose(false)
	r := fakecri.NewRuntime()
	go r.Serve(lis)
	t.Cleanup(r.Stop)
	return r
}

// TestRestoreAfterReboot leaves what a reboot leaves on a disk, where nobody
// runs any more: our socket, dead, at the path, and the server's, dead, beside
// it. It is cleared away by restore or attach, before the server is back or after.
func TestRestoreAfterReboot(t *testing.T) {
	restores := func(outcome string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			out, err := tap(t, "restore", path)
			if want := path + ": " + outcome + "\n"; err != nil || out != want {
				t.Errorf("restore says %q, not %q: %v", out, want, err)
			}
		}
	}
	for _, c := range []struct {
		name string
		back bool // the server is
		do   func(t *testing.T, path string)
	}{
		{"restore, the server down", false, restores("its server is down, and its path is dead until that is back")},
		{"attach, the server down", false, func(t *testing.T, path string) {
			out, err := tap(t, "attach", path, "--for", "30s", "--state-dir", filepath.Dir(path)+"/state")
			if err == nil || !strings.Contains(out, path+": its server does not answer: connection refused") {
				t.Errorf("attach: %v\n%s", err, out)
			}
		}},
		{"restore, the server back", true, restores("its path is its server's, and what was left beside it is removed")},
		{"attach, the server back", true, func(t *testing.T, path string) {
			a := attach(t, path)
			if !strings.Contains(a.Said(), "an earlier grpc-tap was killed here") {
				t.Errorf("it does not say that it cleared up:\n%s", a.Said())
			}
			a.was.Names = "cri.sock"
			a.detach()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := lab.New(t).Path("d", "cri.sock")
			mkdir(t, filepath.Dir(path))
			old := crashable(t, path)
			attach(t, path).killAll()
			old.Stop()
			if at := lookAt(t, path); !strings.Contains(at.Names, ".grpc-tap-") || !strings.HasSuffix(at.Names, " cri.sock") {
				t.Fatalf("not as after a reboot: %+v", at)
			}
			if c.back {
				serve(t, path) // it removes what is at its path
			}
			c.do(t, path)
			if !c.back {
				serve(t, path)
			}
			answers(t, path)
			if names := lookAt(t, path).Names; names != "cri.sock" {
				t.Errorf("there are %s", names)
			}
			nobodyStays(t)
		})
	}
}

// TestRestoreInodeUsedAgain has a server restart where relay and guard were
// killed: the file system may give its new socket the inode of the relay's. It is
// not taken for that, whatever restores.
func TestRestoreInodeUsedAgain(t *testing.T) {
	for name, make := range fileSystems {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(make(t), "cri.sock")
			old := crashable(t, path)
			attach(t, path).killAll()
			relays := lookAt(t, path).Inode
			old.Stop()
			serve(t, path)
			was := lookAt(t, path)
			t.Logf("the relay's inode was %d, the server's is %d", relays, was.Inode)
			out, err := tap(t, "restore", path)
			if err != nil {
				t.Errorf("restore: %v\n%s", err, out)
			}
			if now := lookAt(t, path); now.Inode != was.Inode || now.Names != "cri.sock" {
				t.Fatalf("%s was %+v, and is %+v; restore said: %s", path, was, now, out)
			}
			answers(t, path)
			attach(t, path).detach()
		})
	}
}

// TestAttachLockIsNoFile finds something else where the lock file is to be, which
// somebody may have put there where all may write: nobody waits for it.
func TestAttachLockIsNoFile(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"a FIFO":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a link":      func(path string) error { return os.Symlink("/dev/null", path) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newFakeNode(t)
			lock := filepath.Join(filepath.Dir(n.cri), ".cri.sock.grpc-tap.lock")
			if err := make(lock); err != nil {
				t.Fatal(err)
			}
			undisturbed(t, n.cri, func() {
				attachFails(t, 1, []string{n.cri}, n.cri+": ", "lock file "+lock)
				if out, err := tap(t, "restore", n.cri); err != nil {
					t.Errorf("restore: %v\n%s", err, out)
				}
			})
		})
	}
}

// TestAttachLockRemoved removes the lock file by hand, as somebody does who
// clears away what begins with a dot: the guard gives the path back all the same.
func TestAttachLockRemoved(t *testing.T) {
	for name, end := range map[string]func(a *attached){
		"detach": func(a *attached) { a.detach() },
		"relay killed": func(a *attached) {
			a.kill(a.relay, unix.SIGKILL)
			if said := a.fails(); !strings.Contains(said, "its guard gave the path back") {
				t.Errorf("it was not the guard that gave it back:\n%s", said)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newFakeNode(t)
			a := attach(t, n.cri)
			if err := os.Remove(filepath.Join(filepath.Dir(n.cri), ".cri.sock.grpc-tap.lock")); err != nil {
				t.Fatal(err)
			}
			end(a)
			answers(t, n.cri)
			a.isBack()
			nobodyStays(t)
		})
	}
}
