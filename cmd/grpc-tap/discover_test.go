package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// discoverable is a node below a directory: a runtime, two drivers, and what a
// third one left behind.
func discoverable(t *testing.T) (root string) {
	t.Helper()
	root, err := os.MkdirTemp("", "n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if root, err = filepath.EvalSymlinks(root); err != nil {
		t.Fatal(err)
	}
	at := func(path string) string {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	r := fakecri.NewRuntime(fakecri.WithName("containerd"))
	if err := r.Start(at("run/containerd/containerd.sock")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	for dir, name := range map[string]string{"nfs": "nfs.csi.k8s.io", "rude": "a\x1b[2Jb"} {
		d := fakecri.NewDriver(fakecri.WithName(name))
		if err := d.Start(at("var/lib/kubelet/plugins/" + dir + "/csi.sock")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Stop)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("var/lib/kubelet/plugins/gone/csi.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	return root
}

func discovered(t *testing.T, root, format string) (stdout, stderr string) {
	t.Helper()
	tapped := func(path string) (by, server string) {
		if strings.Contains(path, "/plugins/nfs/") {
			return "by pid 4711", path
		}
		return "", ""
	}
	var out, errs bytes.Buffer
	if err := runDiscover(context.Background(), discover.Config{Root: root, Ask: time.Minute}, format, tapped, &out, &errs); err != nil {
		t.Fatal(err)
	}
	us := []string{fmt.Sprintf("%s (pid %d)", filepath.Base(os.Args[0]), os.Getpid()), "SELF", fmt.Sprintf(`"pid":%d,`, os.Getpid()), `"pid":1,`}
	return strings.NewReplacer(append(us, root, "")...).Replace(out.String()), errs.String()
}

func TestDiscoverText(t *testing.T) {
	stdout, stderr := discovered(t, discoverable(t), "text")
	var got []string
	for line := range strings.Lines(stdout) {
		got = append(got, strings.Join(strings.Fields(line), " ")) // its width is that of a random path
	}
	want := []string{
		"PATH SPEAKS SERVER TAPPED",
		"/run/containerd/containerd.sock CRI v1 containerd v1.0.0 SELF no",
		"/var/lib/kubelet/plugins/gone/csi.sock nothing (dead) - no",
		"/var/lib/kubelet/plugins/nfs/csi.sock CSI nfs.csi.k8s.io v1.0.0 SELF by pid 4711",
		`/var/lib/kubelet/plugins/rude/csi.sock CSI a\x1b[2Jb v1.0.0 SELF no`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("printed\n%s", strings.Join(got, "\n"))
	}
	if os.Getuid() == 0 && stderr != "" {
		t.Errorf("said %s", stderr)
	}
}

func TestDiscoverJSON(t *testing.T) {
	stdout, _ := discovered(t, discoverable(t), "json")
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	servers := fmt.Sprintf(`"servers":[{"pid":1,"exe":%q}]`, exe)
	want := []string{
		`{"path":"/run/containerd/containerd.sock","kind":"cri","speaks":"CRI v1","name":"containerd","version":"v1.0.0",` + servers + `}`,
		`{"path":"/var/lib/kubelet/plugins/gone/csi.sock","kind":"csi","dead":true}`,
		`{"path":"/var/lib/kubelet/plugins/nfs/csi.sock","kind":"csi","speaks":"CSI","name":"nfs.csi.k8s.io","version":"v1.0.0",` + servers + `,"tapped":"by pid 4711"}`,
		`{"path":"/var/lib/kubelet/plugins/rude/csi.sock","kind":"csi","speaks":"CSI","name":"a\u001b[2Jb","version":"v1.0.0",` + servers + `}`,
	}
	if got := strings.TrimSpace(stdout); got != strings.Join(want, "\n") {
		t.Errorf("printed\n%s", got)
	}
	for line := range strings.Lines(stdout) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

// Where there is nothing, it is said where was looked and what to do.
func TestDiscoverNothing(t *testing.T) {
	stdout, stderr := discovered(t, t.TempDir(), "text")
	if stdout != "" {
		t.Errorf("printed %q", stdout)
	}
	for _, want := range []string{"there are no gRPC sockets", "/run/containerd/containerd.sock\n", "/var/lib/kubelet/{plugins,", "--kubelet-dir"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in %s", want, stderr)
		}
	}
}

func TestDiscoverUsage(t *testing.T) {
	for _, args := range [][]string{{"-o", "yaml"}, {"/run/x.sock"}} {
		c := newDiscover()
		c.SetArgs(args)
		c.SilenceErrors, c.SilenceUsage = true, true
		var usage *usageError
		if err := c.Execute(); !errors.As(err, &usage) {
			t.Errorf("%v: %v", args, err)
		}
	}
	err := runDiscover(context.Background(), discover.Config{KubeletDir: "/no/such"}, "text", nil, nil, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "--kubelet-dir /no/such: there is no such directory") {
		t.Error(err)
	}
}

func TestDiscoverServers(t *testing.T) {
	for want, all := range map[string][]discover.Process{
		"-":                                    nil,
		"pid 7":                                {{PID: 7}},
		"made by x (pid 7)":                    {{PID: 7, Exe: "/usr/bin/x", Creator: true}},
		"systemd (pid 1), cri-dockerd (pid 9)": {{PID: 1, Exe: "/usr/lib/systemd/systemd"}, {PID: 9, Exe: "/usr/bin/cri-dockerd"}},
	} {
		if got := servers(discover.Socket{Servers: all}); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestDiscoverTable(t *testing.T) {
	rows := [][]string{
		{"PATH", "SPEAKS", "TAPPED"},
		{"/run/a.sock", "CRI v1 é", "no"},
		{"/var/lib/kubelet/long/path.sock", "gRPC", "by pid 4"},
	}
	for width, want := range map[int]string{
		0: `
PATH                              SPEAKS     TAPPED
/run/a.sock                       CRI v1 é   no
/var/lib/kubelet/long/path.sock   gRPC       by pid 4
`,
		53: `
PATH                              SPEAKS     TAPPED
/run/a.sock                       CRI v1 é   no
/var/lib/kubelet/long/path.sock   gRPC       by pid 4
`,
		52: `
PATH          SPEAKS     TAPPED
/run/a.sock   CRI v1 é   no
/var/lib/kubelet/long/path.sock
              gRPC       by pid 4
`,
		10: `
PATH   SPEAKS     TAPPED
/run/a.sock
       CRI v1 é   no
/var/lib/kubelet/long/path.sock
       gRPC       by pid 4
`,
	} {
		if got := "\n" + table(rows, width); got != want {
			t.Errorf("%d columns:%s", width, got)
		}
	}
}
