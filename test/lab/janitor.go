package lab

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// janitorOf names, in the environment of a janitor, the lab it cleans.
const janitorOf = "GRPC_TAP_LAB_JANITOR"

// The janitor is this test binary started anew. It cannot wait for main:
// tests would run again.
func init() {
	if dir := os.Getenv(janitorOf); dir != "" {
		os.Exit(janitor(dir))
	}
}

// startJanitor starts the process that cleans up after dir once we end,
// however that happens: it reads a pipe whose other end only we hold.
func startJanitor(t testing.TB, dir string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), janitorOf+"="+dir)
	// A session of its own: what kills the test's group must not kill it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Its output is a file, or `go test` would wait for it.
	report, err := os.Create(dir + ".report")
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	cmd.Stdout, cmd.Stderr = report, report
	lifeline, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("lab: start the janitor: %v", err)
	}
	t.Cleanup(func() {
		lifeline.Close()
		err := cmd.Wait()
		if said, _ := os.ReadFile(report.Name()); err != nil || len(said) > 0 {
			t.Errorf("lab: left behind (janitor: %v):\n%s", err, said)
		}
		report.Close()
		os.Remove(report.Name())
	})
}

// janitor waits for its lab to end, then ends and removes what is left of it.
// It prints what resisted, one a line; with nothing to say it leaves no file.
func janitor(dir string) int {
	ours := absent(sharedDirs())
	io.Copy(io.Discard, os.Stdin)

	cgroups := cgroupsOf(contained(dir))
	endProcesses(dir)
	for _, path := range traces(dir) {
		os.Remove(path)
	}
	unmountBelow(dir)
	err := os.RemoveAll(dir)
	for _, path := range append(append(cgroups, cgroupDirs(dir)...), ours...) {
		os.Remove(path) // fails if something is in it: then it is not ours
	}

	left := leftovers(dir)
	if err != nil {
		left = append(left, err.Error())
	}
	for _, what := range left {
		fmt.Println(what)
	}
	if len(left) > 0 {
		return 1
	}
	os.Remove(dir + ".report")
	return 0
}

// endProcesses ends what runs in the lab: politely, but for the shims, which
// don't listen to SIGTERM; then the rest, and what is in the containers.
func endProcesses(dir string) {
	for _, pid := range marked(dir, notShim) {
		unix.Kill(pid, unix.SIGTERM)
	}
	until(5*time.Second, func() bool { return len(marked(dir, notShim)) == 0 })
	// Twice: a process may have started another one meanwhile.
	for range 2 {
		for _, pid := range append(marked(dir, anyProcess), contained(dir)...) {
			unix.Kill(pid, unix.SIGKILL)
		}
		until(2*time.Second, func() bool { return len(marked(dir, anyProcess))+len(contained(dir)) == 0 })
	}
}

func until(limit time.Duration, ok func() bool) {
	for deadline := time.Now().Add(limit); !ok() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

// leftovers tells what still is there of a lab.
func leftovers(dir string) (left []string) {
	for _, pid := range append(marked(dir, anyProcess), contained(dir)...) {
		cmdline, _ := os.ReadFile(procFile(pid, "cmdline"))
		left = append(left, fmt.Sprintf("process %d: %q", pid, cmdline))
	}
	for _, path := range mountsBelow("self", dir) {
		left = append(left, "mount "+path)
	}
	left = append(append(left, cgroupDirs(dir)...), traces(dir)...)
	if _, err := os.Lstat(dir); err == nil {
		left = append(left, filepath.Clean(dir))
	}
	return left
}
