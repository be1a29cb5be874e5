package takeover

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
)

// Which servers' frames we know the places of.
func TestIsGRPCGo(t *testing.T) {
	if err := isGRPCGo("/proc/self/exe"); err != nil {
		t.Errorf("this test is one: %v", err)
	}
	if containerd, err := exec.LookPath("containerd"); err == nil {
		if err := isGRPCGo(containerd); err != nil {
			t.Errorf("%s: %v", containerd, err)
		}
	}
	if err := isGRPCGo("/bin/sh"); err == nil || !strings.Contains(err.Error(), "not built with grpc-go") {
		t.Errorf("a shell: %v", err)
	}
	if err := isGRPCGo("/proc/0/exe"); err == nil || !strings.Contains(err.Error(), "can't be looked into") {
		t.Errorf("nothing: %v", err)
	}
}

func TestContains(t *testing.T) {
	what := []byte("a name")
	for _, before := range []int{0, 1, 256<<10 - 6, 256<<10 - 3, 256 << 10, 512<<10 - 11} {
		text := append(bytes.Repeat([]byte("a na"), before/4+1)[:before], "a name of it"...)
		for name, r := range map[string]io.Reader{"at once": bytes.NewReader(text), "in halves": iotest.HalfReader(bytes.NewReader(text)), "with its end": iotest.DataErrReader(bytes.NewReader(text))} {
			if found, err := contains(r, what); !found || err != nil {
				t.Errorf("%d bytes before it, %s: %v, %v", before, name, found, err)
			}
		}
		if found, err := contains(bytes.NewReader(text[:before+5]), what); found || err != nil {
			t.Errorf("%d bytes before a part of it: %v, %v", before, found, err)
		}
	}
	if _, err := contains(iotest.ErrReader(io.ErrUnexpectedEOF), what); err == nil {
		t.Error("an error is none")
	}
}

// Who greets by itself, as grpc-go does, serves nothing else on that listener.
func TestGreetsFirst(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(t *testing.T, path string)
		ok    bool
	}{
		"grpc-go":          {func(t *testing.T, path string) { grpcServer(t, path) }, true},
		"HTTP/1.1 and 2":   {serveHTTP, false}, // looks at a client's first bytes, as CRI-O does
		"another HTTP/2's": {serveFrames, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "s.sock")
			c.serve(t, path)
			l := &livePath{}
			l.takeIt(t, path)
			if err := l.suits(t.Context(), os.Getpid()); (err == nil) != c.ok {
				t.Errorf("%v", err)
			}
			if err := l.suits(context.Background(), os.Getpid()); (err == nil) != c.ok {
				t.Errorf("asked again: %v", err)
			}
		})
	}
}

func serveHTTP(t *testing.T, path string) {
	t.Helper()
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	lis.(*net.UnixListener).SetUnlinkOnClose(false)
	s := &http.Server{Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(lis)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
}

// serveFrames greets as x/net/http2 does, and no more.
func serveFrames(t *testing.T, path string) {
	t.Helper()
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	lis.(*net.UnixListener).SetUnlinkOnClose(false)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x10\x00\x00")
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = lis.Close()
		<-done
	})
}

func TestInOurNamespace(t *testing.T) {
	if err := inOurNamespace(os.Getpid()); err != nil {
		t.Error(err)
	}
	if err := inOurNamespace(0); err == nil || !strings.Contains(err.Error(), "can't be looked into") {
		t.Errorf("nobody: %v", err)
	}
	if os.Getuid() != 0 {
		t.Skip("only root makes namespaces")
	}
	path := filepath.Join(shortDir(t), "s.sock")
	pid := serverProcess(t, "serve", path, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID})
	if err := inOurNamespace(pid); err == nil || !strings.Contains(err.Error(), "another pid namespace") {
		t.Errorf("in a container: %v", err)
	}
}
