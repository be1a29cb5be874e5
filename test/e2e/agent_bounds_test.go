package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// TestAgentTooMany: of drivers' sockets so many are tapped and no more, and those that are
// stay tapped, also by the next agent. The runtime's always is.
func TestAgentTooMany(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n, "maxDrivers: 2")
	tapped := []string{a.driver("m.csi.test"), a.driver("n.csi.test")}
	a.starts()
	a.stands(n.cri)
	for _, path := range tapped {
		a.stands(path)
	}
	more := []string{a.driver("a.csi.test"), a.driver("z.csi.test")} // before them in the directory, and behind
	says := func() {
		t.Helper()
		a.says(fmt.Sprintf("2 drivers' sockets are tapped, and no more: not %q; deny (or allow) by name what need not be", more))
		if all := a.relays(); len(all) != 3 || len(all[n.cri]) != 1 || len(all[tapped[0]]) != 1 || len(all[tapped[1]]) != 1 {
			t.Errorf("relays: %v", all)
		}
	}
	says()
	a.leave()
	a.starts()
	says()
	a.settings("maxDrivers: 2", "deny: [m.csi.test]")
	a.stands(more[0])
}

// TestAgentStrangers: a socket whose server does not say who it is, since it speaks
// something else or hangs, is not taken: it might be one that is denied. It is not
// greeted again and again either.
func TestAgentStrangers(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n, "deny: [slow.csi.test]")
	foreign, slow := a.path("kubelet/plugins/foreign/x.sock"), a.path("kubelet/plugins/slow/csi.sock")
	mkdir(t, filepath.Dir(foreign))
	var dialled atomic.Int64
	listenRaw(t, foreign, func(c net.Conn) { dialled.Add(1); io.Copy(io.Discard, c) })
	a.serves(slow, "slow.csi.test", fakecri.WithServerOptions(grpc.UnaryInterceptor(
		func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})))
	a.starts()
	for _, path := range []string{foreign, slow} {
		a.says(fmt.Sprintf("%q is not tapped: it does not say who it is", path))
	}
	for i := range 3 { // each comes at a later look
		a.stands(a.driver(fmt.Sprintf("later%d.csi.test", i)))
	}
	if n := dialled.Load(); n != 1 || !nothingBeside(foreign, slow) {
		t.Errorf("the foreign server was dialled %d times; nothing is beside them: %t", n, nothingBeside(foreign, slow))
	}
}

// TestAgentGone: a socket that is gone for good, or left dead, keeps no relay. What was
// counted stays so; and where it comes back, it is tapped again.
func TestAgentGone(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n, "metricsListen: 127.0.0.1:0")
	absent, dead := a.path("kubelet/plugins/gone.csi.test/absent.sock"), a.path("kubelet/plugins/gone.csi.test/dead.sock")
	first, second := a.serves(absent, "gone.csi.test"), a.serves(dead, "gone.csi.test")
	a.starts()
	page := pageOf(a.Tap)
	for _, path := range []string{n.cri, absent, dead} {
		a.stands(path)
	}
	const takeovers = "grpc_tap_takeovers_total"
	page.until(1, takeovers, "socket", absent, "result", "joined")

	first.Stop()
	second.Stop()
	leaveDead(t, dead)
	eventually(t, "the runtime's relay alone is left", func() bool {
		all := a.relays()
		return len(all) == 1 && len(all[n.cri]) == 1
	})
	for _, path := range []string{absent, dead} {
		a.says(fmt.Sprintf("%q has been gone for 3s", path))
		page.until(1, takeovers, "socket", path, "result", "joined")
	}
	a.told(n.cri, func() error { return version(n.cri) })

	a.serves(absent, "gone.csi.test")
	page.until(2, takeovers, "socket", absent, "result", "joined")
	a.told(absent, func() error { return probe(absent) })
}

// leaveDead leaves a socket that nobody listens to, as one whose server was killed.
func leaveDead(t testing.TB, path string) {
	t.Helper()
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	lis.SetUnlinkOnClose(false)
	lis.Close()
}
