package e2e

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestAttachServerThatExpectsNoSocket stops a server gracefully, which removes
// its path, again and again, and starts it as one that does not expect anything
// there: as without us, it starts.
func TestAttachServerThatExpectsNoSocket(t *testing.T) {
	path := lab.New(t).Path("d", "cri.sock")
	mkdir(t, filepath.Dir(path))
	begin := func() *fakecri.Runtime {
		lis, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		r := fakecri.NewRuntime()
		go r.Serve(lis)
		t.Cleanup(r.Stop)
		return r
	}
	r := begin()
	a := attach(t, path)
	for i := range rounds(12, 300) {
		stop := r.Stop
		if i%2 == 0 {
			stop = r.GracefulStop
		}
		stop()
		eventually(t, "attach is off its path", func() bool { return strings.Count(a.Said(), "off "+path) > i })
		if !absent(path) {
			t.Fatalf("round %d: its path is not as the server has left it: %+v", i, lookAt(t, path))
		}
		r = begin()
		a.backOn(i + 1)
		answers(t, path)
	}
	a.detach()
	nobodyStays(t)
}
