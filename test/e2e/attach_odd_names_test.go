package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// maxPath is how long a socket's path may be for those who bind or dial it:
// sun_path of unix(7).
const maxPath = 107

// longDir makes a directory of which the path has n bytes.
func longDir(t testing.TB, n int) (dir string) {
	t.Helper()
	dir = lab.New(t).Path("d")
	for len(dir) < n {
		part := min(n-len(dir)-1, 50)
		if left := n - len(dir) - 1 - part; left == 1 {
			part-- // a slash alone is no name
		}
		dir += "/" + strings.Repeat("d", part)
	}
	if len(dir) != n {
		t.Fatalf("%s has %d bytes, not %d", dir, len(dir), n)
	}
	mkdir(t, dir)
	return dir
}

// byHandle is a short path of a name in a directory: how a path is bound and
// dialled that is too long for a socket's.
func byHandle(t testing.TB, dir, name string) string {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)
}

// TestAttachLongPath attaches to paths about as long as sun_path, and far longer.
func TestAttachLongPath(t *testing.T) {
	for _, n := range []int{maxPath - 1, maxPath, maxPath + 1, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := longDir(t, n-len("/cri.sock"))
			path, short := filepath.Join(dir, "cri.sock"), byHandle(t, dir, "cri.sock")
			serve(t, short)
			for _, end := range []func(a *attached){
				func(a *attached) { a.detach() },
				func(a *attached) { // by restore
					if out, err := tap(t, "restore", path); err != nil {
						t.Errorf("restore: %v\n%s", err, out)
					}
					a.fails()
					a.isBack()
				},
			} {
				undisturbed(t, short, func() {
					a := attach(t, path)
					answers(t, short)
					if r := a.Wait("a call", isMethod("Version")); r.Socket != path {
						t.Errorf("not told with its path: %s", r)
					}
					end(a)
				})
			}
		})
	}
}

// TestAttachLongName attaches to sockets whose names leave little or no room
// for longer ones beside them.
func TestAttachLongName(t *testing.T) {
	for _, n := range []int{60, 90, 225, 240, 255} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir, name := lab.New(t).Dir, strings.Repeat("n", n)
			path := filepath.Join(dir, name)
			r := fakecri.NewRuntime()
			lis, err := net.Listen("unix", filepath.Join(dir, "short.sock"))
			if err != nil {
				t.Fatal(err)
			}
			go r.Serve(lis)
			t.Cleanup(r.Stop)
			// A name longer than sun_path is given by a rename alone, and dialled
			// over a link.
			if err := os.Rename(filepath.Join(dir, "short.sock"), path); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(dir, "link")
			if err := os.Symlink(name, link); err != nil {
				t.Fatal(err)
			}
			was := lookAt(t, path)
			l := runtimeTraffic(t, link)
			l.more(20)
			if n <= 225 {
				attach(t, path).detach()
			} else {
				attachFails(t, 1, []string{path}, path+": ", "too long")
				if out, err := tap(t, "restore", path); err != nil {
					t.Errorf("restore, with nothing to do: %v\n%s", err, out)
				}
			}
			l.more(20)
			l.end()
			answers(t, link)
			if now := lookAt(t, path); now != was {
				t.Errorf("%s was %+v, and is %+v", path, was, now)
			}
			nobodyStays(t)
		})
	}
}

// TestAttachStrangeName attaches to names that mean something elsewhere: to a
// shell, to printf, in mountinfo.
func TestAttachStrangeName(t *testing.T) {
	for _, name := range []string{"a b.sock", "50%s%!d.sock", "[a]*?.sock", `"q'\040.sock`, "größe.sock", "-o.sock", "a.grpc-tap.sock", "a.grpc-tap-1-2"} {
		t.Run(name, func(t *testing.T) {
			dir := lab.New(t).Path("d")
			mkdir(t, dir)
			path := filepath.Join(dir, name)
			serve(t, path)
			plain := link(t, path, lab.New(t).Path("plain.sock")) // grpc-go takes a path for a URL's
			undisturbed(t, plain, func() {
				a := attachTarget(t, path, nil, path)
				if r := a.Wait("a call", isMethod("Version")); r.Socket != path {
					t.Errorf("not told with its path: %s", r)
				}
				a.detach()
			})
			a := attachTarget(t, path, nil, path)
			a.killAll()
			if out, err := tap(t, "restore", path); err != nil || out != path+": its path is given back\n" {
				t.Errorf("restore: %v\n%s", err, out)
			}
			answers(t, plain)
			a.isBack()
		})
	}
}

// TestAttachRelativePath attaches to a path as seen from where one is.
func TestAttachRelativePath(t *testing.T) {
	n := newFakeNode(t)
	undisturbed(t, n.cri, func() {
		l := lab.New(t)
		a := &attached{Tap: &Tap{Listen: n.cri, Tells: true, t: t, lab: l}, was: lookAt(t, n.cri)}
		a.Process = l.Start("attach", nil, "sh", "-c", `cd "$0" && exec "$@"`, filepath.Dir(n.cri),
			binary, "attach", "./cri.sock", "-o", "json", "--state-dir", l.Path("state"))
		if !a.settle() {
			t.Fatalf("it ended:\n%s", a.Said())
		}
		if r := a.Wait("a call", isMethod("Version")); r.Socket != n.cri {
			t.Errorf("not told with its path: %s", r)
		}
		a.detach()
	})
}

// links are ways to a socket over a symbolic link, each made in a directory of
// its own.
var links = map[string]func(t *testing.T, socket, dir string) string{
	"to the socket": func(t *testing.T, socket, dir string) string { return link(t, socket, dir+"/l.sock") },
	"to its directory": func(t *testing.T, socket, dir string) string {
		return link(t, filepath.Dir(socket), dir+"/l") + "/cri.sock"
	},
	"above its directory": func(t *testing.T, socket, dir string) string {
		up, name := filepath.Split(filepath.Dir(socket))
		return filepath.Join(link(t, up, dir+"/l"), name, "cri.sock")
	},
	"to a link": func(t *testing.T, socket, dir string) string {
		return link(t, link(t, socket, dir+"/m.sock"), dir+"/l.sock")
	},
	"a relative one": func(t *testing.T, socket, dir string) string {
		rel, err := filepath.Rel(dir, socket)
		if err != nil {
			t.Fatal(err)
		}
		return link(t, rel, dir+"/l.sock")
	},
}

func link(t testing.TB, to, at string) string {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
	return at
}

// TestAttachLink attaches over links: it is the socket that is taken, whatever
// leads to it, and the links are as they were.
func TestAttachLink(t *testing.T) {
	for name, make := range links {
		t.Run(name, func(t *testing.T) {
			n := newFakeNode(t)
			path := make(t, n.cri, lab.New(t).Dir)
			undisturbed(t, n.cri, func() {
				before := lookAt(t, path)
				l := runtimeTraffic(t, path)
				a := &attached{Tap: &Tap{Listen: path, Tells: true, t: t, lab: lab.New(t)}, was: before}
				a.state = a.lab.Path("state")
				a.start()
				t.Cleanup(a.detach)
				a.Wait("a call", isMethod("Version"))
				l.more(20)
				attachFails(t, 1, []string{n.cri}, n.cri+": another grpc-tap is on it", fmt.Sprint("pid ", a.relay))
				a.detach()
				l.more(20)
				l.end()

				b := attach(t, n.cri)
				if out, err := tap(t, "restore", path); err != nil || !strings.Contains(out, path+": its path is given back") {
					t.Errorf("restore over the link: %v\n%s", err, out)
				}
				b.fails()
			})
		})
	}
}

// TestAttachDanglingLink attaches over a link that leads nowhere, and over one
// that leads to itself.
func TestAttachDanglingLink(t *testing.T) {
	dir := lab.New(t).Dir
	nowhere, loop := link(t, dir+"/gone.sock", dir+"/l.sock"), link(t, dir+"/loop.sock", dir+"/loop.sock")
	attachFails(t, 1, []string{nowhere}, nowhere, dir+"/gone.sock", "no such file or directory", "grpc-tap discover")
	attachFails(t, 1, []string{loop}, loop, "too many links", "grpc-tap discover")
	for _, path := range []string{nowhere, loop} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("there are %v in the directory (%v)", entries, err)
	}
}
