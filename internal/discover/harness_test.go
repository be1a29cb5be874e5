package discover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/tap"
)

// TestMain is also the other processes of the tests: the test binary, started
// again with a part to play.
func TestMain(m *testing.M) {
	if part := os.Getenv("DISCOVER_TEST_PART"); part != "" {
		if err := play(part, os.Args[1:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// patient is for tests in which an answer is expected: no slow machine may
// turn it into silence.
const patient = time.Minute

// play plays a part until stdin ends. It says "ready" first, or why not.
func play(part string, args []string) error {
	switch part {
	case "listen": // DIR NAME: bound by a name that means nothing elsewhere
		if err := os.Chdir(args[0]); err != nil {
			return err
		}
		l, err := net.Listen("unix", args[1])
		if err != nil {
			return err
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		defer l.Close()
	case "dial": // PATH…
		for _, path := range args {
			c, err := net.Dial("unix", path)
			if err != nil {
				return err
			}
			defer c.Close()
		}
	case "hold": // what was inherited
	case "overlay":
		if err := playOverlay(args[0]); err != nil {
			return err
		}
	case "mounted":
		if err := playMounted(args[0]); err != nil {
			return err
		}
	case "nobody":
		if err := playNobody(args[0]); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// another starts a process that plays a part, until the test ends or stop is
// called, and returns when it is ready.
func another(t *testing.T, prepare func(*exec.Cmd), part string, args ...string) (pid int, stop func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "DISCOVER_TEST_PART="+part, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	if prepare != nil {
		prepare(cmd)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, unix.EPERM) && cmd.SysProcAttr != nil {
			t.Skipf("this sandbox lets nobody make namespaces: %v", err)
		}
		t.Fatal(err)
	}
	stop = func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	if line != "ready\n" {
		t.Fatalf("%s: %s", part, line)
	}
	return cmd.Process.Pid, stop
}

// isolated starts a process with namespaces of its own.
func isolated(t *testing.T, flags uintptr) func(*exec.Cmd) {
	if os.Getuid() != 0 {
		t.Skip("only root makes namespaces")
	}
	return func(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags} }
}

// tempDir has a short name, as a socket's path must, and no symbolic links.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// listenAt listens until the test ends, and leaves its file behind.
func listenAt(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// serveWith accepts one connection and hands it to serve.
func serveWith(t *testing.T, path string, serve func(net.Conn)) {
	t.Helper()
	l := listenAt(t, path)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		serve(c)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}

// silent accepts, reads, and answers nothing until the client has gone.
func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// starter is a fake of test/fakecri.
type starter interface {
	Start(path string) error
	Stop()
}

func start(t *testing.T, s starter, path string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	if err := s.Start(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
}

// plain serves gRPC without any service, and returns a channel of the methods
// that it was asked for.
func plain(t *testing.T, path string) <-chan string {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	asked := make(chan string, 100)
	s := grpc.NewServer(grpc.WaitForHandlers(true),
		grpc.InTapHandle(func(ctx context.Context, info *tap.Info) (context.Context, error) {
			asked <- info.FullMethodName
			return ctx, nil
		}))
	l := listenAt(t, path)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return asked
}

func dead(t *testing.T, path string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	_ = listenAt(t, path).Close()
}

func inspect(t *testing.T, c Config, path string) Socket {
	t.Helper()
	if c.Ask == 0 {
		c.Ask = patient
	}
	s, err := c.Inspect(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// self is this process, which serves most of the fakes.
func self() []Process { return []Process{process(os.Getpid())} }

func pidsOf(ps []Process) string {
	var out []string
	for _, p := range ps {
		out = append(out, fmt.Sprint(p.PID))
	}
	return strings.Join(out, " ")
}
