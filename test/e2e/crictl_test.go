//go:build critest

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestCrictl uses the tool that people reach for on a node: what it prints is
// the same through grpc-tap.
func TestCrictl(t *testing.T) {
	crictl := filepath.Join(filepath.Dir(os.Getenv("CRITEST")), "crictl")
	r := lab.Containerd(t, lab.Options{})
	tap := Proxy(t, r.Socket)
	pod := r.Write("pod.json", `{"metadata": {"name": "web", "namespace": "e2e", "uid": "web-1"},
		"linux": {"cgroup_parent": "`+r.CgroupParent+`"}}`)
	container := r.Write("container.json", `{"metadata": {"name": "main"},
		"image": {"image": "`+lab.BusyboxImage+`"}, "command": ["sleep", "1000"]}`)
	run := func(socket string, args ...string) string {
		t.Helper()
		out, err := r.Run(append([]string{crictl, "--config", "/dev/null", "--runtime-endpoint", "unix://" + socket, "--timeout", "60s"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	run(tap.Listen, "run", "--no-pull", container, pod)
	for _, args := range [][]string{
		{"version"}, {"images"}, {"pods", "-o", "json"}, {"ps", "--all", "-o", "json"}, {"images", "-o", "json"},
	} {
		if direct, through := run(r.Socket, args...), run(tap.Listen, args...); direct != through {
			t.Errorf("crictl %v\ndirectly:\n%s\nthrough:\n%s", args, direct, through)
		}
	}
	// exec goes over containerd's streaming server; only the call that asks
	// for its URL passes here.
	id := strings.TrimSpace(run(tap.Listen, "ps", "--quiet", "--no-trunc"))
	for _, part := range []string{id, id[:13]} {
		if out := run(tap.Listen, "exec", part, "echo", "hi"); out != "hi\n" {
			t.Errorf("crictl exec %s echo hi: %q", part, out)
		}
	}
	run(tap.Listen, "rmp", "--all", "--force")
	if !tap.Tells {
		return
	}
	for _, method := range []string{"RunPodSandbox", "StartContainer", "Exec", "RemovePodSandbox"} {
		record := tap.Wait(method, isMethod(method))
		if record.Caller.Exe != crictl || record.Code != "OK" || record.Pod.Name != "web" {
			t.Errorf("not told as crictl's call about pod web: %s", record)
		}
	}
	for _, record := range tap.Records() {
		if record.Method == "Exec" && (record.Container.ID != id || record.Pod.Name != "web") {
			t.Errorf("whom it is about is not known by a part of an id: %s", record)
		}
	}
	tap.Stop()
	if said := tap.Complained(); len(said) > 0 {
		t.Errorf("it did not read all of it: %q", said)
	}
}
