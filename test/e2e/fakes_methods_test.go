package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// TestFakesMethods calls every method of CRI and CSI, directly and through
// grpc-tap: the answers are the same, and each call has the record that
// grpc-go's own counts ask for.
func TestFakesMethods(t *testing.T) {
	n := newFakeNode(t)
	for _, api := range []struct {
		name     string
		upstream string
		methods  []string
		call     func(*fakecri.Kubelet) []fakecri.Result
		check    func(*testing.T, []Record)
	}{
		{"CRI", n.cri, fakecri.CRIMethods(), func(k *fakecri.Kubelet) []fakecri.Result {
			return k.CallAllCRI(t.Context())
		}, checkCRISubjects},
		{"CSI", n.csi, fakecri.CSIMethods(), func(k *fakecri.Kubelet) []fakecri.Result {
			return k.CallAllCSI(t.Context(), n.driver.Name)
		}, checkCSISubjects},
	} {
		t.Run(api.name, func(t *testing.T) {
			tap := front(t, api.upstream)
			direct, through, counts := &ear{keep: shapeOf}, &ear{keep: shapeOf}, &oracle{}
			k := n.kubelet(n.cri, n.csi, direct.option())
			was := api.call(k)
			k.Close()
			k = n.kubelet(tap.Listen, tap.Listen, through.option(), counts.option())
			is := api.call(k)
			counts.open.Wait()
			k.Close()

			sameResults(t, was, is)
			for i := range max(len(direct.calls), len(through.calls)) {
				if i >= len(direct.calls) || i >= len(through.calls) {
					t.Fatalf("%d calls directly, %d through", len(direct.calls), len(through.calls))
				}
				heardSame(t, *direct.calls[i], *through.calls[i])
			}
			tap.Stop()
			if !tap.Tells {
				return
			}
			records := tap.Records()
			counts.compare(t, records)
			for _, method := range api.methods {
				service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
				if !slices.ContainsFunc(records, func(r Record) bool { return r.Service == service && r.Method == name }) {
					t.Errorf("no record of %s", method)
				}
			}
			for _, r := range records {
				if r.State != "done" || r.Socket != tap.Listen || len(r.Request) == 0 && r.RequestBytes > 0 {
					t.Errorf("not told in full: %s", r)
				}
				if strings.Contains(r.String(), "hunter2") {
					t.Errorf("a secret in a record: %s", r)
				}
			}
			api.check(t, records)
			if said := tap.Complained(); len(said) > 0 {
				t.Errorf("it did not read all of it: %q", said)
			}
		})
	}
}

func shapeOf(m proto.Message) string { return shape(m) }

func sameResults(t *testing.T, direct, through []fakecri.Result) {
	t.Helper()
	if err := fakecri.Errors(through); err != nil {
		t.Errorf("through grpc-tap: %v", err)
	}
	told := func(r fakecri.Result) string { return r.Method + " " + codeName(r.Err) }
	if !slices.EqualFunc(direct, through, func(a, b fakecri.Result) bool { return told(a) == told(b) }) {
		t.Errorf("results\ndirectly %v\nthrough  %v", direct, through)
	}
}

// checkCRISubjects holds that what is about a pod, a sandbox or a container
// says so: by what the call holds, or what calls before it taught.
func checkCRISubjects(t *testing.T, records []Record) {
	const ofPod, ofSandbox, ofContainer = 1, 2, 4
	about := map[string]int{"PullImage": ofPod}
	for _, m := range strings.Fields("RunPodSandbox PodSandboxStatus UpdatePodSandboxResources PortForward PodSandboxStats CheckpointPod StopPodSandbox RestorePod") {
		about[m] = ofPod | ofSandbox
	}
	for _, m := range strings.Fields("CreateContainer StartContainer ContainerStatus UpdateContainerResources ReopenContainerLog " +
		"ExecSync Exec Attach ContainerStats CheckpointContainer StopContainer RemoveContainer") {
		about[m] = ofPod | ofSandbox | ofContainer
	}
	run, _ := nth(records, "RunPodSandbox", 0)
	created, _ := nth(records, "CreateContainer", 0)
	uid := run.Pod.UID
	if len(run.SandboxID) != 64 || len(created.Container.ID) != 64 || uid == "" {
		t.Errorf("no ids where they are given out:\n%s\n%s", run, created)
	}
	for _, r := range records {
		of := about[r.Method]
		if of&ofPod != 0 && (r.Pod.Namespace != "fakecri" || r.Pod.Name != "call-all" || r.Pod.UID != uid) {
			t.Errorf("%s: not of its pod: %s", r.Method, r)
		}
		if of&ofSandbox != 0 && r.Method != "RestorePod" && r.SandboxID != run.SandboxID {
			t.Errorf("%s: not of its sandbox: %s", r.Method, r)
		}
		if of&ofContainer != 0 && (r.Container.ID != created.Container.ID || r.Container.Name != "main") {
			t.Errorf("%s: not of its container: %s", r.Method, r)
		}
		if of == 0 && r.Method != "RemovePodSandbox" && (r.Pod.Name != "" || r.Container.ID != "") {
			t.Errorf("%s: is about no pod, and says it is: %s", r.Method, r)
		}
	}
	// Two: of the pod that was run, and of the one that was restored.
	for i, want := range []string{run.SandboxID, restoredID(records)} {
		r, ok := nth(records, "RemovePodSandbox", i)
		if !ok || want == "" || r.SandboxID != want || r.Pod.Name != "call-all" {
			t.Errorf("RemovePodSandbox %d: not of sandbox %q: %s", i, want, r)
		}
	}
}

func restoredID(records []Record) string {
	r, _ := nth(records, "RestorePod", 0)
	return r.SandboxID
}

// checkCSISubjects holds that calls about a volume name it, and those on a
// pod's path the pod.
func checkCSISubjects(t *testing.T, records []Record) {
	ofPod := strings.Fields("NodePublishVolume NodeGetVolumeStats NodeGetVolumeHealth NodeExpandVolume NodeUnpublishVolume")
	ofVolume := append(ofPod, strings.Fields("NodeStageVolume NodeUnstageVolume CreateVolume ControllerPublishVolume ControllerUnpublishVolume DeleteVolume ControllerExpandVolume")...)
	publish, _ := nth(records, "NodePublishVolume", 0)
	volume := volumeOf(t, publish)
	if volume.ID == "" || publish.Pod.UID == "" || publish.Pod.Name != "call-all" || publish.Pod.Namespace != "fakecri" {
		t.Errorf("NodePublishVolume: no volume or no pod: %s", publish)
	}
	for _, r := range records {
		v := volumeOf(t, r)
		if slices.Contains(ofVolume, r.Method) && v.ID != volume.ID {
			t.Errorf("%s: not of volume %s: %s", r.Method, volume.ID, r)
		}
		if !slices.Contains(ofPod, r.Method) {
			continue
		}
		if r.Pod != publish.Pod || !strings.Contains(v.Path, r.Pod.UID) {
			t.Errorf("%s: not of the pod of its path: %s", r.Method, r)
		}
		if v.Driver != fakecri.DefaultDriver || v.PV != volume.PV {
			t.Errorf("%s: not of its driver and PV: %s", r.Method, r)
		}
	}
}

type volume struct{ ID, PV, Driver, Path string }

func volumeOf(t *testing.T, r Record) volume {
	t.Helper()
	var out struct{ Volume volume }
	if r.line == "" {
		return volume{}
	}
	if err := json.Unmarshal([]byte(r.line), &out); err != nil {
		t.Fatal(err)
	}
	return out.Volume
}
