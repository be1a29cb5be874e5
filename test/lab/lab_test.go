package lab

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNothingIsLeft shows what every other test relies on: a lab that was
// left with a container running, as a test that failed half-way leaves it,
// is gone when the test ends, whole.
func TestNothingIsLeft(t *testing.T) {
	var dir string
	var outside []string // what lies outside the directory while it runs
	t.Run("lab", func(t *testing.T) {
		r := Containerd(t, Options{})
		dir = r.Dir
		runContainer(t, r, r.CgroupParent+"/c1")
		outside = traces(dir)
		if len(contained(dir)) == 0 || len(marked(dir, anyProcess)) < 2 || len(mountsBelow("self", dir)) == 0 || len(cgroupDirs(dir)) == 0 || len(outside) == 0 {
			t.Errorf("a container runs, but: processes in containers %v, of the lab %v, mounts %q, cgroups %q, outside %q",
				contained(dir), marked(dir, anyProcess), mountsBelow("self", dir), cgroupDirs(dir), outside)
		}
	})
	if dir == "" {
		t.Skip("the lab was skipped")
	}
	left := leftovers(dir)
	for _, path := range outside {
		if len(absent([]string{path})) == 0 {
			left = append(left, path)
		}
	}
	if len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// TestNothingIsLeftByTheKilled does the same with a test binary that is
// killed, as one that ran into its timeout ends without cleaning up.
func TestNothingIsLeftByTheKilled(t *testing.T) {
	needPrivileges(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestToBeKilled$", "-test.v")
	cmd.Env = append(os.Environ(), killMe+"=1")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var dir, said string
	lines := bufio.NewScanner(out)
	for dir == "" && lines.Scan() {
		said += lines.Text() + "\n"
		_, dir, _ = strings.Cut(lines.Text(), killMe+"=")
	}
	if dir == "" {
		t.Fatalf("the test to be killed did not say its lab's directory:\n%s", said)
	}
	cmd.Process.Signal(syscall.SIGKILL)
	io.Copy(io.Discard, out)
	cmd.Wait()
	until(30*time.Second, func() bool {
		_, err := os.Stat(dir + ".report")
		return os.IsNotExist(err)
	})
	if left := append(leftovers(dir), cgroupDirs(elsewhere+filepath.Base(dir))...); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

const (
	killMe = "GRPC_TAP_LAB_KILL_ME"
	// elsewhere begins the name of a cgroup that is not below the lab's.
	elsewhere = "not-"
)

// TestToBeKilled is the other process of the test above.
func TestToBeKilled(t *testing.T) {
	if os.Getenv(killMe) == "" {
		return
	}
	r := Containerd(t, Options{})
	runContainer(t, r, "/"+elsewhere+filepath.Base(r.Dir))
	os.Stdout.WriteString(killMe + "=" + r.Dir + "\n")
	select {}
}

func runContainer(t *testing.T, r *Runtime, cgroup string) {
	t.Helper()
	ctr := []string{r.CTR, "--address", r.Socket, "--namespace", "k8s.io", "run", "--detach",
		"--cgroup", cgroup, "--fifo-dir", r.Path("fifo"), "--runc-root", r.Path("runc"), BusyboxImage, "c1", "sleep", "1000"}
	if _, err := r.Run(ctr...); err != nil {
		t.Fatal(err)
	}
}
