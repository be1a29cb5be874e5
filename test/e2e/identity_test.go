package e2e

import (
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestNamesWhatWasThere: pods that are older than the session are known by their
// containers' and sandboxes' ids from its first calls on, though nobody lists them.
func TestNamesWhatWasThere(t *testing.T) {
	t.Run("fakes", func(t *testing.T) {
		n := newFakeNode(t)
		n.AddPods(110)
		namesAll(t, n.cri)
	})
	t.Run("containerd", func(t *testing.T) {
		r := lab.Containerd(t, lab.Options{})
		conn, err := dial(r.Socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		rt := cri.NewRuntimeServiceClient(conn)
		config := &cri.PodSandboxConfig{
			Metadata: &cri.PodSandboxMetadata{Name: "old", Namespace: "e2e", Uid: "uid-of-old"}, LogDirectory: r.Path("logs"),
			Labels: map[string]string{"io.kubernetes.pod.name": "old", "io.kubernetes.pod.namespace": "e2e", "io.kubernetes.pod.uid": "uid-of-old"},
			Linux:  &cri.LinuxPodSandboxConfig{CgroupParent: r.CgroupParent},
		}
		sandbox, err := rt.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: config})
		if err == nil {
			_, err = rt.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: sandbox.PodSandboxId, SandboxConfig: config, Config: &cri.ContainerConfig{
				Metadata: &cri.ContainerMetadata{Name: "app"}, Image: &cri.ImageSpec{Image: lab.BusyboxImage}, Command: []string{"sleep", "1000"}, Linux: &cri.LinuxContainerConfig{},
				Labels: map[string]string{"io.kubernetes.pod.name": "old", "io.kubernetes.pod.namespace": "e2e", "io.kubernetes.pod.uid": "uid-of-old"},
			}})
		}
		if err != nil {
			t.Fatal(err)
		}
		namesAll(t, r.Socket)
	})
}

// namesAll holds that each container of a runtime is known by its id alone.
func namesAll(t *testing.T, path string) {
	direct, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { direct.Close() })
	all, err := cri.NewRuntimeServiceClient(direct).ListContainers(t.Context(), &cri.ListContainersRequest{})
	if err != nil || len(all.GetContainers()) == 0 {
		t.Fatalf("%d containers: %v", len(all.GetContainers()), err)
	}
	tap := Proxy(t, path)
	through, err := dial(tap.Listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { through.Close() })
	for _, c := range all.Containers {
		// The runtime may refuse it: what counts is whose it is.
		_, _ = cri.NewRuntimeServiceClient(through).ReopenContainerLog(t.Context(), &cri.ReopenContainerLogRequest{ContainerId: c.Id})
	}
	if !tap.Tells {
		return
	}
	for _, c := range all.Containers {
		r := tap.Wait("a call by the id "+c.Id, func(r Record) bool { return r.Method == "ReopenContainerLog" && r.Container.ID == c.Id })
		pod := [3]string{r.Pod.Namespace, r.Pod.Name, r.Pod.UID}
		want := [3]string{c.Labels["io.kubernetes.pod.namespace"], c.Labels["io.kubernetes.pod.name"], c.Labels["io.kubernetes.pod.uid"]}
		if pod != want || r.Container.Name != c.Metadata.Name || r.SandboxID != c.PodSandboxId {
			t.Errorf("of %s: %s", want, r)
		}
	}
}
