package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// NFS mounts of a server that is not there: on loopback, at port 1, so that it
// does not matter what runs on this machine.
const (
	nfsRefused  = "vers=3,nolock,retry=0,port=1,mountport=1" // gives up after a second
	nfsNoClient = "vers=4,retry=0,port=1"                    // at once, where the kernel has no NFS client
	nfsHangs    = "vers=3,nolock,port=1,mountport=1"         // gives up after more than two minutes
)

func nfsVolume(options string) map[string]string {
	return map[string]string{"server": "127.0.0.1", "share": "/exports/data", "mountOptions": options}
}

// needNFS fails the test where mount.nfs is not installed: that can be mended.
func needNFS(t testing.TB) {
	t.Helper()
	needMounts(t)
	if _, err := os.Stat("/sbin/mount.nfs"); err != nil {
		t.Fatalf("%v; run: apt-get install -y --no-install-recommends nfs-common", err)
	}
}

// TestCSIMountFails mounts NFS volumes that cannot be mounted. What mount(8)
// says is in the records, whole, with the pod and the time it took.
func TestCSIMountFails(t *testing.T) {
	needNFS(t)
	d := newCSIDriver(t)
	tap := Proxy(t, d.Socket)
	d.introduce(tap.Listen)
	for _, test := range []struct {
		name, options string
		says          []string // one of these
	}{
		{"refused", nfsRefused, []string{"mount.nfs: Connection refused"}},
		{"no-client", nfsNoClient, []string{"mount.nfs: No such device", "mount.nfs: Connection refused"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			staged, inline := d.volume("pv-"+test.name, false, nfsVolume(test.options)), d.volume("inline-"+test.name, true, nfsVolume(test.options))
			for method, try := range map[string]struct {
				csiVolume
				path string
				call func(context.Context, grpc.ClientConnInterface) error
			}{
				"NodeStageVolume":   {staged, staged.staging, staged.stage},
				"NodePublishVolume": {inline, inline.target, inline.publish},
			} {
				took, err := csiCall(t, tap.Listen, 2*time.Minute, try.call)
				said := status.Convert(err)
				words := fmt.Sprintf("mount failed: exit status 32\nMounting command: mount\nMounting arguments:  -t nfs -o %s 127.0.0.1:/exports/data %s\nOutput: ", test.options, try.path)
				rest, ok := strings.CutPrefix(said.Message(), words)
				if said.Code() != codes.Internal || !ok || !slices.ContainsFunc(test.says, func(s string) bool { return strings.HasPrefix(rest, s) }) {
					t.Errorf("%s: %v %q, not %q and one of %q", method, said.Code(), said.Message(), words, test.says)
				}
				if !tap.Tells {
					continue
				}
				r := tap.Wait(method+" of "+try.id, func(r Record) bool { return r.Method == method && strings.Contains(r.line, try.id) })
				if r.Code != "INTERNAL" || r.Message != said.Message() {
					t.Errorf("%s: not told with code and message %q: %s", method, said.Message(), r)
				}
				try.checkTold(t, r)
				d.checkDuration(r, took)
				t.Logf("%s", r)
			}
		})
	}
	tap.Stop()
	if tap.Tells {
		d.checkAllTold(tap)
	}
}

// checkDuration holds a record's duration between what the driver needed for
// its last call and what the client waited: the tap is between them.
func (d *csiDriver) checkDuration(r Record, waited time.Duration) {
	d.t.Helper()
	answers := d.Answers()
	needed := answers[len(answers)-1].Took
	if told := time.Duration(r.DurationMS * float64(time.Millisecond)); told < needed || told > waited {
		d.t.Errorf("%s: told as %v, but the driver needed %v and its client waited %v", r.Method, told, needed, waited)
	}
}

// TestCSIMountOutlivesItsCall has a mount hang beyond its call's deadline, here
// of seconds: csi_hang_test.go has the kubelet's.
func TestCSIMountOutlivesItsCall(t *testing.T) {
	needNFS(t)
	d := newCSIDriver(t)
	tap := Proxy(t, d.Socket)
	d.introduce(tap.Listen)
	v := d.volume("hangs", true, nfsVolume(nfsHangs))
	d.hangs(tap, tap.Listen, v, 3*time.Second)

	// The driver ends its mount when it is told to end, and nothing else would.
	if err := d.Stop(10 * time.Second); err != nil {
		t.Errorf("the driver, told to end by SIGTERM: %v", err)
	}
	if left := d.mounting(); len(left) > 0 {
		t.Errorf("the driver ended, but its mount did not: %d", left)
	}
}

// hangs publishes a volume whose mount takes longer than the call's deadline,
// and then as the kubelet does again. It returns what tap told of the first,
// which is dialled at a socket.
func (d *csiDriver) hangs(tap *Tap, socket string, v csiVolume, deadline time.Duration) Record {
	t := d.t
	t.Helper()
	if _, err := csiCall(t, socket, deadline, v.publish); status.Code(err) != codes.DeadlineExceeded {
		t.Fatalf("a mount that hangs: %v", err)
	}
	if len(d.mounting()) == 0 {
		t.Error("the mount ended with its call's deadline")
	}
	_, again := csiCall(t, socket, deadline, v.publish)
	if status.Code(again) != codes.Aborted {
		t.Errorf("a retry while the mount hangs: %v", again)
	}
	if !tap.Tells {
		return Record{}
	}
	r := tap.Wait("the mount that hangs", func(r Record) bool { return r.Code == "DEADLINE_EXCEEDED" })
	v.checkTold(t, r)
	// The client's clock runs before its headers are seen.
	if told := time.Duration(r.DurationMS * float64(time.Millisecond)); r.Method != "NodePublishVolume" || told < deadline*19/20 || told > deadline+5*time.Second {
		t.Errorf("told as %v, the deadline was %v: %s", told, deadline, r)
	}
	retry := tap.Wait("the retry", func(r Record) bool { return r.Code == "ABORTED" })
	v.checkTold(t, retry)
	if want := "An operation with the given Volume ID " + v.id + " already exists"; retry.Message != want {
		t.Errorf("not told with message %q: %s", want, retry)
	}
	return r
}

// mounting are the processes in the driver's lab that mount NFS.
func (d *csiDriver) mounting() (found []int) {
	for _, pid := range d.Processes() {
		if cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && bytes.Contains(cmdline, []byte("mount.nfs\x00")) {
			found = append(found, pid)
		}
	}
	return found
}
