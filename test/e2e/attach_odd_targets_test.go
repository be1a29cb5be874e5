package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// kubelet is a kubelet's directory with drivers in it, each in a directory of
// another name than its own.
type kubeletDir struct {
	dir     string
	drivers map[string]string // path by name
}

func newKubeletDir(t *testing.T, drivers ...string) *kubeletDir {
	t.Helper()
	k := &kubeletDir{lab.New(t).Path("kubelet"), map[string]string{}}
	for _, name := range drivers {
		dir := filepath.Join(k.dir, "plugins", "dir-of-"+name)
		mkdir(t, dir)
		path := filepath.Join(dir, "csi.sock")
		d := fakecri.NewDriver(fakecri.WithName(name))
		if err := d.Start(path); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Stop)
		k.drivers[name] = path
	}
	return k
}

// attachTarget starts attach on what is no path, and waits until it is on these.
func attachTarget(t *testing.T, target string, args []string, paths ...string) *attached {
	t.Helper()
	l := lab.New(t)
	a := &attached{Tap: &Tap{Listen: paths[0], Tells: true, t: t, lab: l}, state: l.Path("state"), was: lookAt(t, paths[0])}
	a.Process = l.Start("attach", nil, append([]string{binary, "attach", target, "-o", "json", "--state-dir", a.state}, args...)...)
	t.Cleanup(a.detach)
	for _, path := range paths {
		a.Until("it is on "+path, eventuallyTime, func() bool { return strings.Contains(a.Said(), "grpc-tap: on "+path+", relayed by") })
	}
	if n := strings.Count(a.Said(), ", relayed by pid "); n != len(paths) {
		t.Errorf("it is on %d paths, not %d:\n%s", n, len(paths), a.Said())
	}
	return a
}

// TestAttachTargets names drivers instead of paths: by their own names and by
// their directories', one or all.
func TestAttachTargets(t *testing.T) {
	k := newKubeletDir(t, "a.example.com", "b.example.com")
	in := []string{"--kubelet-dir", k.dir}
	pathA, pathB := k.drivers["a.example.com"], k.drivers["b.example.com"]
	wasA, wasB := lookAt(t, pathA), lookAt(t, pathB)
	for target, paths := range map[string][]string{
		"csi/a.example.com":        {pathA},
		"csi/dir-of-b.example.com": {pathB},
		"csi":                      {pathA, pathB},
	} {
		t.Run(target, func(t *testing.T) {
			load := driverTraffic(t, paths[0])
			a := attachTarget(t, target, in, paths...)
			r := a.Wait("a call", isMethod("NodeGetCapabilities"))
			if r.Socket != paths[0] {
				t.Errorf("not told as on %s: %s", paths[0], r)
			}
			load.more(20)
			a.detach()
			load.more(20)
			load.end()
			if nowA, nowB := lookAt(t, pathA), lookAt(t, pathB); nowA != wasA || nowB != wasB {
				t.Errorf("the paths were %+v and %+v, and are %+v and %+v", wasA, wasB, nowA, nowB)
			}
			nobodyStays(t)
		})
	}
}

// TestAttachNoTarget names a driver that there is not: what there is is said.
func TestAttachNoTarget(t *testing.T) {
	k := newKubeletDir(t, "a.example.com", "b.example.com")
	attachFails(t, 1, []string{"csi/nope", "--kubelet-dir", k.dir}, "there is no CSI driver nope", "csi/a.example.com", "csi/b.example.com")
	empty := lab.New(t).Path("kubelet")
	mkdir(t, empty)
	attachFails(t, 1, []string{"csi", "--kubelet-dir", empty}, "nothing to attach to")
	nobodyStays(t)
}

// TestAttachWatchedDirectories names sockets where the kubelet takes what
// appears for a plugin: with --force alone, and then without a name that it
// would take for one.
func TestAttachWatchedDirectories(t *testing.T) {
	for _, name := range []string{"device-plugins", "plugins_registry"} {
		t.Run(name, func(t *testing.T) {
			dir := lab.New(t).Path("kubelet", name)
			mkdir(t, dir)
			path := filepath.Join(dir, "plugin.sock")
			serve(t, path)
			undisturbed(t, path, func() {
				attachFails(t, 1, []string{path}, path+": the kubelet watches that directory", "--force")
				a := attach(t, path, "--force")
				for _, name := range strings.Fields(lookAt(t, path).Names) {
					if name != "plugin.sock" && name[0] != '.' {
						t.Errorf("the kubelet takes %s for a plugin", name)
					}
				}
				a.Wait("a call", isMethod("Version"))
				a.detach()
			})
		})
	}
}
