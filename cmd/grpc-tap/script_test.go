package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// binDir holds the real binary, since a relay is this binary started again.
var binDir string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "grpc-tap-script")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "grpc-tap"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	if err := os.Chmod(dir, 0o755); err != nil { // some tests run it as nobody
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// The scripts are headed by what they are for. Beside testscript's commands
// they have:
//
//	fake PATH          a fake runtime on that path, until the script ends
//	serving PATH       wait until something accepts there
//	call PATH          the kubelet's Version call
//	calls-until-gone PATH   such calls, until one fails
//	await-text FILE TEXT    wait until the file holds the text
//	dead PATH          leave a socket there that nobody serves
//	nobody CMD ARGS…   run as uid 65534
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", binDir+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("LONG", "/"+strings.Repeat("x", 107))
			// A socket's path is short, a script's own directory is not.
			dir, err := os.MkdirTemp("", "s")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(dir) })
			e.Setenv("D", dir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fake": func(ts *testscript.TestScript, _ bool, args []string) {
				r := fakecri.NewRuntime()
				ts.Check(r.Start(args[0]))
				ts.Defer(r.Stop)
			},
			"serving": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(await(args[0]))
			},
			"call": func(ts *testscript.TestScript, neg bool, args []string) {
				err := callVersion(args[0])
				if neg && err == nil {
					ts.Fatalf("the call to %s did not fail", args[0])
				}
				if !neg {
					ts.Check(err)
				}
			},
			"calls-until-gone": func(ts *testscript.TestScript, _ bool, args []string) {
				for callVersion(args[0]) == nil {
				}
			},
			"await-text": func(ts *testscript.TestScript, _ bool, args []string) {
				for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
					if b, _ := os.ReadFile(args[0]); strings.Contains(string(b), args[1]) {
						return
					}
					if time.Now().After(end) {
						ts.Fatalf("%s never held %q", args[0], args[1])
					}
				}
			},
			"dead": func(ts *testscript.TestScript, _ bool, args []string) {
				l, err := net.ListenUnix("unix", &net.UnixAddr{Name: args[0], Net: "unix"})
				ts.Check(err)
				l.SetUnlinkOnClose(false)
				ts.Check(l.Close())
			},
			"nobody": func(ts *testscript.TestScript, neg bool, args []string) {
				path, err := exec.LookPath(filepath.Join(binDir, args[0]))
				ts.Check(err)
				cmd := exec.Command(path, args[1:]...)
				cmd.Dir = "/"
				cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
				if os.Getuid() == 0 {
					cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
				}
				if err := cmd.Run(); (err != nil) != neg {
					ts.Fatalf("%v: %v", args, err)
				}
			},
		},
	})
}

// await dials until something accepts.
func await(path string) error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", path)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			return err
		}
	}
}

func callVersion(path string) error {
	k, err := fakecri.NewKubelet(path)
	if err != nil {
		return err
	}
	_, err = k.Runtime.Version(context.Background(), &runtime.VersionRequest{})
	return errors.Join(err, k.Close())
}
