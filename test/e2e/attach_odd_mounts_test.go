package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestAttachBoundDirectory attaches through a bind mount of the directory, with
// clients on both paths.
func TestAttachBoundDirectory(t *testing.T) {
	n := newFakeNode(t)
	dir := lab.New(t).Path("bound")
	mkdir(t, dir)
	mount(t, filepath.Dir(n.cri), dir, "", unix.MS_BIND, "")
	other := filepath.Join(dir, "cri.sock")
	undisturbed(t, n.cri, func() {
		l := runtimeTraffic(t, other)
		a := attach(t, other)
		answers(t, n.cri)
		a.Wait("a call by the other path", isMethod("Version"))
		l.more(20)
		attachFails(t, 1, []string{n.cri}, n.cri+": another grpc-tap is on it", fmt.Sprint("pid ", a.relay))
		l.end()
		a.detach()
	})
}

// TestAttachBoundSocket attaches to a file on which the socket is mounted: it
// can't be exchanged, and is as it was.
func TestAttachBoundSocket(t *testing.T) {
	n := newFakeNode(t)
	l := lab.New(t)
	path := l.Write("cri.sock", "")
	mount(t, n.cri, path, "", unix.MS_BIND, "")
	undisturbed(t, path, func() {
		attachFails(t, 1, []string{path}, path+": ", "something is mounted on it", "unmount")
	})
}

// pod is a process in a mount namespace of its own, with the socket mounted as
// a file, as a pod's hostPath volume of type Socket has it.
type socketMount struct {
	*lab.Process
	path string // of the mounted file, for those outside
}

func mountInPod(t *testing.T, socket string) *socketMount {
	t.Helper()
	needRoot(t, "it makes mount namespaces")
	l := lab.New(t)
	at := l.Write("mounted.sock", "")
	p := l.Start("pod", nil, "unshare", "--mount", "sh", "-c", `mount --bind "$0" "$1" && touch "$2" && exec sleep 1000`, socket, at, l.Path("ready"))
	p.Until("it has mounted the socket", eventuallyTime, func() bool { return !absent(l.Path("ready")) })
	t.Cleanup(p.Kill)
	return &socketMount{p, fmt.Sprintf("/proc/%d/root%s", p.PID(), at)}
}

// TestAttachMountedAsFile has a pod mount the socket as a file while it is
// taken. The pod has the relay's socket for good: that goes on being served
// until the pod has ended, and who holds it is named.
func TestAttachMountedAsFile(t *testing.T) {
	for name, back := range map[string]func(a *attached){
		"detach": func(a *attached) {
			a.stopped = true
			if err := a.Process.Stop(eventuallyTime); err != nil {
				t.Errorf("attach, told to end by SIGTERM: %v; stderr:\n%s", err, a.Said())
			}
		},
		"restore": func(a *attached) {
			if _, err := tap(t, "restore", a.Listen); err != nil {
				t.Error(err)
			}
			a.fails()
		},
		"relay killed": func(a *attached) {
			a.kill(a.relay, unix.SIGKILL)
			a.fails()
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newFakeNode(t)
			a := attach(t, n.cri)
			pod := mountInPod(t, n.cri)
			answers(t, pod.path)
			l := runtimeTraffic(t, n.cri)
			l.more(20)
			back(a)
			l.more(20)
			if name != "relay killed" {
				l.end()
			}
			if now := lookAt(t, n.cri); now != a.was {
				t.Errorf("%s was %+v, and is %+v", n.cri, a.was, now)
			}
			names := fmt.Sprintf("process %d", pod.PID())
			eventually(t, "attach names who has it mounted", func() bool {
				said := a.Said()
				return strings.Contains(said, fmt.Sprintf("pid=%d", pod.PID())) || strings.Contains(said, names)
			})
			for range 3 {
				answers(t, n.cri)
				answers(t, pod.path)
			}
			out, err := tap(t, "restore", n.cri)
			if err != nil || !strings.Contains(out, names) {
				t.Errorf("restore does not name %s: %v\n%s", names, err, out)
			}
			answers(t, pod.path)
			again := attach(t, n.cri) // the relay that goes on is in nobody's way
			answers(t, n.cri)
			answers(t, pod.path)
			again.detach()
			answers(t, pod.path)
			pod.Kill()
			l.stop()
			nobodyStays(t)
		})
	}
}

// TestAttachOtherNamespace names a socket by the root of a process in a mount
// namespace of its own, where another lies at that path than here: it is taken
// or refused, and the one of that name here is not touched.
func TestAttachOtherNamespace(t *testing.T) {
	l := lab.New(t)
	theirs, here := l.Path("theirs"), l.Path("here")
	mkdir(t, theirs)
	mkdir(t, here)
	serve(t, theirs+"/cri.sock")
	serve(t, here+"/cri.sock")
	p := l.Start("pod", nil, "unshare", "--mount", "sh", "-c", `mount --bind "$0" "$1" && touch "$2" && exec sleep 1000`, theirs, here, l.Path("ready"))
	t.Cleanup(p.Kill)
	p.Until("it has mounted the directory", eventuallyTime, func() bool { return !absent(l.Path("ready")) })
	wasTheirs, wasHere := lookAt(t, theirs+"/cri.sock"), lookAt(t, here+"/cri.sock")
	a := contend(t, fmt.Sprintf("/proc/%d/root%s/cri.sock", p.PID(), here))
	if a.settle() {
		if now := lookAt(t, theirs+"/cri.sock"); now == wasTheirs {
			t.Error("it is on another socket than was named")
		}
		a.Listen, a.was = theirs+"/cri.sock", wasTheirs
		a.detach()
	} else {
		a.fails()
	}
	if now := lookAt(t, here+"/cri.sock"); now != wasHere {
		t.Errorf("another socket than was named was %+v, and is %+v", wasHere, now)
	}
	nobodyStays(t)
}

// fileSystems are those that sockets lie on: a disk's, /run's, a container's.
var fileSystems = map[string]func(t *testing.T) (dir string){
	"ext4":    ext4,
	"tmpfs":   func(t *testing.T) string { return tmpfs(t, "size=64k") },
	"overlay": overlay,
}

// TestAttachFileSystems attaches on each.
func TestAttachFileSystems(t *testing.T) {
	for name, make := range fileSystems {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(make(t), "cri.sock")
			serve(t, path)
			undisturbed(t, path, func() {
				a := attach(t, path)
				a.Wait("a call", isMethod("Version"))
				a.detach()
				b := attach(t, path)
				if out, err := tap(t, "restore", path); err != nil {
					t.Errorf("restore: %v\n%s", err, out)
				}
				b.fails()
			})
			a := attach(t, path)
			a.kill(a.relay, unix.SIGKILL)
			a.fails()
			answers(t, path)
			a.isBack()
			b := attach(t, path)
			b.killAll()
			c := attach(t, path)
			c.was = b.was
			c.detach()
			answers(t, path)
		})
	}
}

// overlay mounts a container's kind of file system, on a small one that is used
// for nothing else.
func overlay(t *testing.T) (dir string) {
	on := ext4(t)
	for _, name := range []string{"lower", "upper", "work"} {
		mkdir(t, filepath.Join(on, name))
	}
	dir = lab.New(t).Path("merged")
	mkdir(t, dir)
	mount(t, "overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", on))
	return dir
}

// TestRestoreNamesItsOwn has pods mount two sockets of one name in different
// directories: restore names those of its path, not the other's.
func TestRestoreNamesItsOwn(t *testing.T) {
	n, other := newFakeNode(t), newFakeNode(t)
	pods := map[string]*socketMount{}
	for _, path := range []string{n.cri, other.cri} {
		a := attach(t, path)
		pods[path] = mountInPod(t, path)
		a.stopped = true
		if err := a.Process.Stop(eventuallyTime); err != nil {
			t.Error(err)
		}
	}
	for path, pod := range pods {
		out, err := tap(t, "restore", path)
		if err != nil || strings.Count(out, " mounted at ") != 1 || !strings.Contains(out, fmt.Sprintf("process %d", pod.PID())) {
			t.Errorf("restore of %s does not name process %d alone: %v\n%s", path, pod.PID(), err, out)
		}
	}
	for _, pod := range pods {
		pod.Kill()
	}
	nobodyStays(t)
}

// TestAttachMountedBefore has a pod mount the socket before it is taken: the
// pod has the server's own, and sees nothing of us.
func TestAttachMountedBefore(t *testing.T) {
	n := newFakeNode(t)
	pod := mountInPod(t, n.cri)
	undisturbed(t, n.cri, func() {
		l := runtimeTraffic(t, pod.path)
		a := attach(t, n.cri)
		l.more(20)
		a.detach()
		l.more(20)
		l.end()
	})
}
