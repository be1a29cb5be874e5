package proxy

import (
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// TestOwnListenerReplaced has a socket take another's place while that one is
// removed, as when a relay takes the place of another: the newer one stays.
func TestOwnListenerReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "own", "door")
	listen := func() *OwnListener {
		l, err := ListenOwn("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	last := listen()
	if err := last.Open(); err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		next := listen()
		var both sync.WaitGroup
		both.Go(last.Shut)
		if err := next.Open(); err != nil {
			t.Fatal(err)
		}
		both.Wait()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("round %d: the newer socket is not at its path: %v", i, err)
		}
		c.Close()
		last = next
	}
	last.Shut()
}
