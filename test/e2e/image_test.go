package e2e

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestImage runs the container image on a real containerd: there is nothing in it but
// grpc-tap, and that is enough.
func TestImage(t *testing.T) {
	notSocat(t, "is no image")
	r := lab.Containerd(t, lab.Options{})
	out, archive := r.Path("image"), r.Path("image.tar")
	program, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "run", ".", "-out", out, runtime.GOARCH+"="+program)
	build.Dir = "../../tools/image"
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	ctr := func(args ...string) string {
		said, err := r.Run(append([]string{r.CTR, "--address", r.Socket, "--namespace", "k8s.io"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	if _, err := r.Run("tar", "-C", out, "-cf", archive, "."); err != nil {
		t.Fatal(err)
	}
	ctr("images", "import", "--all-platforms", "--base-name", "lab.invalid/grpc-tap", "--digests", archive)
	name := ""
	for line := range strings.Lines(ctr("images", "list", "--quiet")) {
		if strings.HasPrefix(line, "lab.invalid/grpc-tap@") {
			name = strings.TrimSpace(line)
		}
	}
	said := ctr("run", "--rm", "--runc-root", r.Path("runc"), "--cgroup", r.CgroupParent+"/image", name, filepath.Base(r.Dir), "/grpc-tap", "version")
	if !strings.Contains(said, "grpc-tap") || !strings.Contains(said, "go1.") {
		t.Errorf("%q", said)
	}
}
