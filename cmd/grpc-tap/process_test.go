package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// proxied starts a fake runtime and the binary in front of it.
func proxied(t *testing.T, prepare func(*exec.Cmd)) (cmd *exec.Cmd, path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := fakecri.NewRuntime()
	if err := r.Start(filepath.Join(dir, "up")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	path = filepath.Join(dir, "tap")
	cmd = exec.Command(filepath.Join(binDir, "grpc-tap"), "proxy", "--listen", path, "--upstream", filepath.Join(dir, "up"))
	prepare(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := await(path); err != nil {
		_ = cmd.Process.Kill()
		t.Fatal(err)
	}
	return cmd, path
}

// Nobody reads stderr (Ctrl-S, a pager): calls go on and are printed, and
// Ctrl-C ends it.
func TestStderrThatNobodyReads(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	for err := error(nil); err == nil; { // fill it
		_, err = unix.Write(pipe[1], make([]byte, 4096))
	}
	_ = unix.SetNonblock(pipe[1], false)
	r, w := os.NewFile(uintptr(pipe[0]), "r"), os.NewFile(uintptr(pipe[1]), "w")
	defer r.Close()
	var stdout bytes.Buffer
	cmd, path := proxied(t, func(c *exec.Cmd) { c.Stdout, c.Stderr = &stdout, w })
	_ = w.Close()
	for range 3 {
		if err := callVersion(path); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
	if n := strings.Count(stdout.String(), "Version"); n != 3 {
		t.Errorf("%d calls were printed", n)
	}
}

// relayPID reads the relay's pid off the line that says it serves.
func relayPID(t *testing.T, stderr *bufio.Reader) int {
	t.Helper()
	line, err := stderr.ReadString('\n')
	m := regexp.MustCompile(`by pid (\d+);`).FindStringSubmatch(line)
	if err != nil || m == nil {
		t.Fatalf("%q, %v", line, err)
	}
	pid, _ := strconv.Atoi(m[1])
	return pid
}

// The relay may outlive everything: it holds nothing of who started it.
func TestTheRelayHoldsNothingOfItsStarter(t *testing.T) {
	theirs, err := os.CreateTemp(t.TempDir(), "inherited")
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	r, w, _ := os.Pipe()
	cmd, _ := proxied(t, func(c *exec.Cmd) {
		c.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_HEADERS=authorization=hunter2", "OTEL_TRACES_EXPORTER=none")
		c.ExtraFiles = []*os.File{theirs}
		c.Stderr = w
	})
	_ = w.Close()
	stderr := bufio.NewReader(r)
	pid := relayPID(t, stderr)
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("fds %v, %v", fds, err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); to == theirs.Name() {
			t.Errorf("%s is the starter's %s", fd, to)
		}
	}
	if cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); cwd != "/" {
		t.Errorf("its working directory is %s", cwd)
	}
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || len(env) > 0 {
		t.Errorf("its environment is %q, %v", env, err)
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	_ = r.Close()
}

// Neither process can leave a core dump, which would hold the bytes that pass:
// the kernel gives the files in /proc/PID of such a process to root.
func TestNoCoreDumps(t *testing.T) {
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o777) // for the test's own user, where we are root
	}
	r, w, _ := os.Pipe()
	cmd := exec.Command(filepath.Join(binDir, "grpc-tap"), "proxy", "--listen", filepath.Join(dir, "tap"), "--upstream", filepath.Join(dir, "up"))
	cmd.Dir, cmd.Stderr = "/", w
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	for name, pid := range map[string]int{"tap": cmd.Process.Pid, "relay": relayPID(t, bufio.NewReader(r))} {
		var st unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/maps", pid), &st); err != nil || st.Uid != 0 {
			t.Errorf("the %s can be dumped: /proc/%d/maps is uid %d's, %v", name, pid, st.Uid, err)
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	_ = r.Close()
}

// Somebody else ends the relay: that is said, and is a failure.
func TestARelayEndedByOthers(t *testing.T) {
	for sig, want := range map[unix.Signal]string{
		unix.SIGTERM: "was told to end by somebody else",
		unix.SIGKILL: "died: signal: killed; its path is dead until grpc-tap is started again",
	} {
		r, w, _ := os.Pipe()
		cmd, _ := proxied(t, func(c *exec.Cmd) { c.Stderr = w })
		_ = w.Close()
		stderr := bufio.NewReader(r)
		if err := unix.Kill(relayPID(t, stderr), sig); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%v: ended with %v", sig, err)
		}
		said := new(bytes.Buffer)
		_, _ = said.ReadFrom(stderr)
		if !strings.Contains(said.String(), want) {
			t.Errorf("%v: said %q", sig, said)
		}
		_ = r.Close()
	}
}

// A session that is told to end before it has begun ends well, whenever that
// is, or by the signal where it did not catch it yet.
func TestEndedBeforeItBegan(t *testing.T) {
	dir := t.TempDir()
	for i := range 40 {
		cmd := exec.Command(filepath.Join(binDir, "grpc-tap"), "proxy", "--listen", filepath.Join(dir, "tap"), "--upstream", filepath.Join(dir, "up"))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * time.Millisecond) // any moment will do
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
		if s := cmd.ProcessState; s.ExitCode() > 0 {
			t.Fatalf("after %d ms: %v: %s", i, s, stderr.String())
		}
		if _, err := os.Lstat(filepath.Join(dir, "tap")); err == nil && cmd.ProcessState.ExitCode() == 0 {
			t.Fatal("the path stays")
		}
	}
}
