//go:build critest

package e2e

import (
	"slices"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// standIns are images under the names that critest pulls, with what its tests
// look for in them and nothing else: no registry of anybody's is asked.
func standIns(t testing.TB) []lab.Image {
	const staging = "k8s-staging-cri-tools/"
	base := testImage(t)
	as := func(name string, change func(*lab.Image)) lab.Image {
		img := base
		img.Name, img.Note = name, name // the note makes each a distinct image
		img.Files = slices.Clone(base.Files)
		if change != nil {
			change(&img)
		}
		return img
	}
	user := func(user string) func(*lab.Image) { return func(img *lab.Image) { img.User = user } }
	images := []lab.Image{
		as("e2e-test-images/busybox:1.29-2", nil),
		as("e2e-test-images/nginx:1.14-2", serving(t, "80")),
		as("e2e-test-images/httpd:2.4.39-4", serving(t, "80")),
		as("e2e-test-images/nonewprivs:1.3", setuid(t)),
		as(staging+"hostnet-nginx-amd64:latest", serving(t, "12003")),
		as(staging+"test-image-user-uid:latest", user("1002")),
		as(staging+"test-image-user-username:latest", user("www-data")),
		as(staging+"test-image-user-uid-group:latest", user("1003:users")),
		as(staging+"test-image-user-username-group:latest", user("www-data:100")),
		as(staging+"test-image-predefined-group:latest", user("1000")),
		as(staging+"test-image-latest:latest", nil),
		as(staging+"test-image-tag:test", nil),
		as(staging+"test-image-tag:all", nil),
		as(staging+"test-image-1:latest", nil),
		as(staging+"test-image-2:latest", nil),
		as(staging+"test-image-3:latest", nil),
	}
	// Not the image that containerd is told to pin, which can't be removed.
	pause := lab.Pause(t, "pause:3.9")
	pause.Note = pause.Name
	images = append(images, pause)
	for _, tag := range []string{"1", "2", "3"} {
		img := as(staging+"test-image-tags", nil) // three tags of one image
		img.Name += ":" + tag
		images = append(images, img)
	}
	return images
}

// testImage is busybox with the users and groups that critest knows, and the
// two programs that Debian's busybox was built without.
func testImage(t testing.TB) lab.Image {
	img := lab.Busybox(t, "")
	img.Files = slices.DeleteFunc(img.Files, func(f lab.File) bool { return f.Path == "/etc/passwd" || f.Path == "/etc/group" })
	file := func(path, content string, mode int64) {
		img.Files = append(img.Files, lab.File{Path: path, Data: []byte(content), Mode: mode})
	}
	file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"+
		"default-user:x:1000:1000::/home/default-user:/bin/sh\n", 0o644)
	file("/etc/group", "root:x:0:\nwww-data:x:33:\nusers:x:100:\nnobody:x:65534:\n"+
		"default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n", 0o644)
	file("/bin/pgrep", "#!/bin/sh\nexec pidof \"$1\"\n", 0o755)
	file("/bin/ipcs", "#!/bin/sh\nexec cat /proc/sysvipc/shm\n", 0o755)
	return img
}

// serving makes an image that answers HTTP like nginx, and calls itself so.
func serving(t testing.TB, port string) func(*lab.Image) {
	return func(img *lab.Image) {
		img.Files = append(img.Files, lab.File{Path: "/bin/nginx", Data: lab.Program(t, "webserver")})
		img.Cmd = []string{"/bin/nginx", "master process", port}
	}
}

// setuid makes an image that says whom it runs as, and would be root.
func setuid(t testing.TB) func(*lab.Image) {
	return func(img *lab.Image) {
		img.Files = append(img.Files, lab.File{Path: "/bin/effectiveuid", Data: lab.Program(t, "effectiveuid"), Mode: 0o4755})
		img.Cmd = []string{"/bin/effectiveuid"}
	}
}
