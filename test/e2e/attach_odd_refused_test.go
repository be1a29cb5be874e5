package e2e

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// notServers are what somebody may name who means something else. Each is made
// in a directory, and says what attach is to say of it.
var notServers = []struct {
	name string
	make func(t *testing.T, dir string) (path string)
	says []string
}{
	{"nothing", func(t *testing.T, dir string) string { return dir + "/missing.sock" },
		[]string{"no such file or directory", "grpc-tap discover"}},
	{"no directory", func(t *testing.T, dir string) string { return dir + "/missing/x.sock" },
		[]string{"no such file or directory", "grpc-tap discover"}},
	{"a regular file", func(t *testing.T, dir string) string {
		path := dir + "/file.sock"
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}, []string{"is no socket", "grpc-tap discover"}},
	{"a directory", func(t *testing.T, dir string) string {
		mkdir(t, dir+"/dir.sock")
		return dir + "/dir.sock"
	}, []string{"is no socket", "grpc-tap discover"}},
	{"a directory, with a slash", func(t *testing.T, dir string) string {
		mkdir(t, dir+"/dir.sock")
		return dir + "/dir.sock/"
	}, []string{"is no socket", "grpc-tap discover"}},
	{"a dead socket", func(t *testing.T, dir string) string {
		leaveDead(t, dir+"/dead.sock")
		return dir + "/dead.sock"
	}, []string{"does not answer", "connection refused"}},
	{"a datagram socket", func(t *testing.T, dir string) string {
		return bound(t, dir+"/dgram.sock", unix.SOCK_DGRAM)
	}, []string{"socket"}},
	{"a seqpacket socket", func(t *testing.T, dir string) string {
		return bound(t, dir+"/seqpacket.sock", unix.SOCK_SEQPACKET)
	}, []string{"socket"}},
	{"a server that says nothing", func(t *testing.T, dir string) string {
		listenRaw(t, dir+"/mute.sock", func(c net.Conn) { io.Copy(io.Discard, c) })
		return dir + "/mute.sock"
	}, []string{"HTTP/2"}},
	{"a server that does not accept", func(t *testing.T, dir string) string {
		path := bound(t, dir+"/full.sock", unix.SOCK_STREAM)
		for { // until its queue is full
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(fd) })
			switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); {
			case errors.Is(err, unix.EAGAIN):
				return path
			case err != nil:
				t.Fatal(err)
			}
		}
	}, nil},
	{"a server that hangs up", func(t *testing.T, dir string) string {
		listenRaw(t, dir+"/hangup.sock", func(net.Conn) {})
		return dir + "/hangup.sock"
	}, []string{"does not speak HTTP/2"}},
	{"a server of another protocol", func(t *testing.T, dir string) string {
		listenRaw(t, dir+"/redis.sock", func(c net.Conn) {
			bufio.NewReader(c).ReadString('\n')
			io.WriteString(c, "-ERR unknown command 'PRI'\r\n")
		})
		return dir + "/redis.sock"
	}, []string{"does not speak HTTP/2"}},
	{"a server of HTTP/1.1", func(t *testing.T, dir string) string {
		lis, err := net.Listen("unix", dir+"/http.sock")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.NotFoundHandler()}
		go s.Serve(lis)
		t.Cleanup(func() { s.Close() })
		return dir + "/http.sock"
	}, []string{"does not speak HTTP/2"}},
}

// bound is a socket that is bound, and listens where its type can.
func bound(t *testing.T, path string, kind int) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if kind != unix.SOCK_DGRAM {
		if err := unix.Listen(fd, 8); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// TestAttachNoServer names what is no gRPC server: it is refused in one line
// and left as it is.
func TestAttachNoServer(t *testing.T) {
	t.Run("at once", func(t *testing.T) {
		for _, no := range notServers {
			t.Run(no.name, func(t *testing.T) {
				t.Parallel() // some say nothing for seconds
				dir := lab.New(t).Path("dir")
				mkdir(t, dir)
				path := no.make(t, dir)
				was := lookAt(t, dir+"/x")
				attachFails(t, 1, []string{path}, append(no.says, filepath.Clean(path))...)
				if now := lookAt(t, dir+"/x"); now != was {
					t.Errorf("%s was %+v, and is %+v", dir, was, now)
				}
			})
		}
	})
	nobodyStays(t)
}

// TestAttachTTRPC names paths that are known for ttrpc, whose servers tell their
// clients by their uid, or take them for plugins: nobody is even dialled.
func TestAttachTTRPC(t *testing.T) {
	for _, name := range []string{"containerd.sock.ttrpc", "nri.sock"} {
		t.Run(name, func(t *testing.T) {
			dir := lab.New(t).Path("dir")
			mkdir(t, dir)
			path := filepath.Join(dir, name)
			var dialled atomic.Int32
			listenRaw(t, path, func(c net.Conn) { dialled.Add(1); io.Copy(io.Discard, c) })
			was := lookAt(t, path)
			attachFails(t, 1, []string{path}, path, "ttrpc")
			attachFails(t, 1, []string{path, "--force"}, path, "ttrpc")
			if now := lookAt(t, path); now != was {
				t.Errorf("%s was %+v, and is %+v", path, was, now)
			}
			if n := dialled.Load(); n > 0 {
				t.Errorf("it was dialled %d times", n)
			}
		})
	}
}

// TestAttachUsage names no targets.
func TestAttachUsage(t *testing.T) {
	for _, target := range []string{"nonsense", "csi/", "", "."} {
		t.Run(target, func(t *testing.T) {
			attachFails(t, 2, []string{target}, "is no target", "csi/DRIVER")
		})
	}
	attachFails(t, 2, []string{"--for", "-1s", "/x"}, "--for")
	attachFails(t, 2, []string{"--drain", "-1s", "/x"}, "--drain")
}
