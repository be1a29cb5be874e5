//go:build long

package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// TestCSIMountHangs is a mount of an NFS server that is not there, as the
// kubelet sees it with its deadline of two minutes: DeadlineExceeded, and
// nothing of mount(8)'s reason, which comes seconds later to nobody.
func TestCSIMountHangs(t *testing.T) {
	needNFS(t)
	d := newCSIDriver(t)
	tap := Proxy(t, d.Socket)
	shown := Proxy(t, tap.Listen, "-o", "text") // what a user sees of it
	d.introduce(shown.Listen)
	v := d.volume("hangs", true, nfsVolume(nfsHangs))
	r := d.hangs(tap, shown.Listen, v, 2*time.Minute)
	if tap.Tells {
		// The record decides, and no clock of ours.
		if r.Code != "DEADLINE_EXCEEDED" || r.DurationMS < 119_000 {
			t.Errorf("not told as 120 s and DeadlineExceeded: %s", r)
		}
		t.Logf("the record:\n%s", r)
	}

	d.Until("the mount gives up by itself", time.Minute, func() bool { return len(d.mounting()) == 0 })
	d.Until("the driver logs it", 5*time.Second, func() bool { return len(d.Answers()) == 3 })
	last := d.Answers()[2]
	t.Logf("the driver: %s %s after %v", last.Method, last.Code, last.Took)
	if last.Code != codes.Internal || last.Took < 2*time.Minute {
		t.Errorf("the mount ended as %v", last)
	}
	shown.Stop()
	tap.Stop()
	printed, err := os.ReadFile(shown.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("printed:\n%s", printed)
	if shown.Tells && !strings.Contains(string(printed), "DEADLINE_EXCEEDED") {
		t.Error("nothing of it was printed")
	}
}
