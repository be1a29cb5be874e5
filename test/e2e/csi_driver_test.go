package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpc-tap/grpc-tap/test/csidriver"
	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// The tests named TestCSI… put grpc-tap in front of test/csidriver, whose
// mounts are real, and fail as real ones do.

// csiDriver is a CSI driver that runs in a mount namespace of its own: what it
// mounts is seen through its pid only, and is gone when it has ended, however
// it ends.
type csiDriver struct {
	*lab.Lab
	*lab.Process
	Socket, Registration, Dialled string // Dialled: where it sends the kubelet

	t testing.TB
}

func newCSIDriver(t testing.TB) *csiDriver {
	t.Helper()
	needMounts(t)
	program, err := csiProgram()
	if err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	d := &csiDriver{Lab: l, Socket: l.Path("plugins", csidriver.DefaultName, "csi.sock"), Registration: l.Path("registry.sock"), Dialled: l.Path("tap", "csi.sock"), t: t}
	for _, dir := range []string{filepath.Dir(d.Socket), l.Path("bin")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(l.Path("bin/csidriver"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	d.Process = l.Start("csidriver", nil, "unshare", "--mount", "--", l.Path("bin/csidriver"), "--endpoint", d.Socket,
		"--root", l.Path("root"), "--registration", d.Registration, "--kubelet-registration-path", d.Dialled)
	d.Accepts(d.Socket, 10*time.Second)
	d.Accepts(d.Registration, 10*time.Second)
	return d
}

// needMounts skips the test where no effort of ours could make it run.
func needMounts(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this machine cannot run it: not root (the CSI driver mounts)")
	}
	if out, err := exec.Command("unshare", "--mount", "--", "mount", "--bind", os.TempDir(), os.TempDir()).CombinedOutput(); err != nil {
		t.Skipf("this machine cannot run it: no mount namespaces, or no mounts (CAP_SYS_ADMIN): %v: %s", err, out)
	}
}

// csiProgram is the driver's binary.
var csiProgram = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "csidriver-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir+"/csidriver", "../csidriver/cmd/csidriver")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build ./test/csidriver/cmd/csidriver: %w\n%s", err, out)
	}
	return os.ReadFile(dir + "/csidriver")
})

// csiAnswer is a call as the driver's log has it.
type csiAnswer struct {
	Method string
	Code   codes.Code
	Took   time.Duration
}

var csiAnswered = regexp.MustCompile(`(?m)^call (\S+) (\S+) (\S+)$`)

// Answers are the calls that the driver has answered so far.
func (d *csiDriver) Answers() (answers []csiAnswer) {
	d.t.Helper()
	said, err := os.ReadFile(d.Stderr)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, m := range csiAnswered.FindAllStringSubmatch(string(said), -1) {
		a := csiAnswer{Method: m[1]}
		for a.Code = codes.OK; a.Code.String() != m[2]; a.Code++ {
			if a.Code > codes.Unauthenticated {
				d.t.Fatalf("no code: %s", m[0])
			}
		}
		if a.Took, err = time.ParseDuration(m[3]); err != nil {
			d.t.Fatal(err)
		}
		answers = append(answers, a)
	}
	return answers
}

// Mounts are the mount points that the driver sees below the lab's directory.
func (d *csiDriver) Mounts() (found []string) {
	d.t.Helper()
	mountinfo, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", d.PID()))
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(mountinfo)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], d.Dir+"/") {
			found = append(found, f[4])
		}
	}
	return found
}

// csiVolume is a volume of a pod, with the paths that a kubelet whose root
// directory is in the lab gives it.
type csiVolume struct {
	id, pv, pvc         string // an inline volume has its name in the pod for pv, and no pvc
	namespace, pod, uid string
	target, staging     string
	context             map[string]string
}

// volume is a volume of a PV of the driver's, or with inline of the pod itself.
func (d *csiDriver) volume(pod string, inline bool, context map[string]string) csiVolume {
	v := csiVolume{namespace: "e2e", pod: pod, uid: "0c9d63a1-" + pod, pv: "pvc-of-" + pod, pvc: "claim-of-" + pod, id: "handle-of-" + pod}
	v.context = map[string]string{"csi.storage.k8s.io/pv/name": v.pv, "csi.storage.k8s.io/pvc/name": v.pvc, "csi.storage.k8s.io/pvc/namespace": v.namespace}
	if inline {
		v.pv, v.pvc, v.context = "data", "", map[string]string{}
		sum := sha256.Sum256([]byte(v.uid + v.pv))
		v.id = "csi-" + hex.EncodeToString(sum[:])
	} else {
		sum := sha256.Sum256([]byte(v.id))
		v.staging = d.Path("kubelet/plugins/kubernetes.io/csi", csidriver.DefaultName, hex.EncodeToString(sum[:]), "globalmount")
	}
	maps.Copy(v.context, context)
	v.target = d.Path("kubelet/pods", v.uid, "volumes/kubernetes.io~csi", v.pv, "mount")
	return v
}

func mountable() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

func (v csiVolume) stage(ctx context.Context, c grpc.ClientConnInterface) error {
	_, err := csi.NewNodeClient(c).NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: v.id, StagingTargetPath: v.staging, VolumeCapability: mountable(), VolumeContext: v.context,
	})
	return err
}

// publish is told of the pod, as of a driver with podInfoOnMount.
func (v csiVolume) publish(ctx context.Context, c grpc.ClientConnInterface) error {
	told := maps.Clone(v.context)
	maps.Copy(told, map[string]string{
		"csi.storage.k8s.io/pod.name": v.pod, "csi.storage.k8s.io/pod.namespace": v.namespace, "csi.storage.k8s.io/pod.uid": v.uid,
		"csi.storage.k8s.io/serviceAccount.name": "default", "csi.storage.k8s.io/ephemeral": strconv.FormatBool(v.staging == ""),
	})
	_, err := csi.NewNodeClient(c).NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: v.id, TargetPath: v.target, StagingTargetPath: v.staging, VolumeCapability: mountable(), VolumeContext: told,
	})
	return err
}

// csiCall makes a call as the kubelet does: on a connection of its own, with a
// deadline. It returns how long that took.
func csiCall(t testing.TB, socket string, deadline time.Duration, call func(context.Context, grpc.ClientConnInterface) error) (time.Duration, error) {
	t.Helper()
	k, err := fakecri.NewKubelet("", fakecri.WithCSI(csidriver.DefaultName, socket))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	conn, err := k.DialCSI(csidriver.DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	began := time.Now()
	err = call(ctx, conn)
	return time.Since(began), err
}

// checkTold holds what a record says of pod and volume.
func (v csiVolume) checkTold(t testing.TB, r Record) {
	t.Helper()
	var told struct {
		Volume struct{ ID, PV, PVC, Driver, Path string }
	}
	if err := json.Unmarshal([]byte(r.line), &told); err != nil {
		t.Fatal(err)
	}
	want := told.Volume
	want.ID, want.PV, want.PVC, want.Driver, want.Path = v.id, v.pv, v.pvc, csidriver.DefaultName, v.target
	if v.staging == "" {
		want.PV = "" // it has none
	}
	if r.Method == "NodeStageVolume" {
		want.Path = v.staging
	} else if r.Pod.Namespace != v.namespace || r.Pod.Name != v.pod || r.Pod.UID != v.uid {
		t.Errorf("%s: not of pod %s/%s, uid %s: %s", r.Method, v.namespace, v.pod, v.uid, r)
	}
	if told.Volume != want {
		t.Errorf("%s: of volume %+v, not %+v", r.Method, told.Volume, want)
	}
}
