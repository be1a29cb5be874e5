package discover

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func clientsOf(t *testing.T, path string) string {
	t.Helper()
	all, err := Clients(path)
	if err != nil && os.Getuid() == 0 {
		t.Fatal(err)
	}
	return pidsOf(all)
}

// accept takes one connection and holds it until the test ends.
func accept(t *testing.T, l *net.UnixListener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Whoever is connected is named, accepted or not, and nobody who is connected
// to another socket or has gone.
func TestClients(t *testing.T) {
	dir := tempDir(t)
	path, other := filepath.Join(dir, "a.sock"), filepath.Join(dir, "b.sock")
	l, lo := listenAt(t, path), listenAt(t, other)
	if got := clientsOf(t, path); got != "" {
		t.Errorf("connected before anybody dialled: %s", got)
	}

	accepted, stopAccepted := another(t, nil, "dial", path, path)
	accept(t, l)
	accept(t, l)
	waiting, _ := another(t, nil, "dial", path)
	stranger, _ := another(t, nil, "dial", other)
	accept(t, lo)

	if got, want := clientsOf(t, path), pidsOf(processes([]int{accepted, waiting})); got != want {
		t.Errorf("connected: %s, not %s", got, want)
	}
	if got, want := clientsOf(t, other), pidsOf(processes([]int{stranger})); got != want {
		t.Errorf("connected to the other: %s, not %s", got, want)
	}
	own := dial(t, path)
	if got, want := clientsOf(t, path), pidsOf(processes([]int{accepted, waiting, os.Getpid()})); got != want {
		t.Errorf("connected with ourselves: %s, not %s", got, want)
	}
	_ = own.Close()
	stopAccepted()
	if got, want := clientsOf(t, path), pidsOf(processes([]int{waiting})); got != want {
		t.Errorf("connected after two have gone: %s, not %s", got, want)
	}
}

// A connection stays with its server when that is renamed away: the path's new
// owner has new clients only.
func TestClientsAfterARename(t *testing.T) {
	dir := tempDir(t)
	path, aside := filepath.Join(dir, "x.sock"), filepath.Join(dir, ".x.sock.up")
	l := listenAt(t, path)
	older, _ := another(t, nil, "dial", path)
	accept(t, l)
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	l = listenAt(t, path)
	newer, _ := another(t, nil, "dial", path)
	accept(t, l)
	if got, want := clientsOf(t, path), pidsOf(processes([]int{newer})); got != want {
		t.Errorf("of the path: %s, not %s", got, want)
	}
	if got, want := clientsOf(t, aside), pidsOf(processes([]int{older})); got != want {
		t.Errorf("of the socket aside: %s, not %s", got, want)
	}
}

// The kernel lists an accepted connection in its client's network namespace:
// that of a sidecar's pod, for a driver on the host's.
func TestClientInAnotherNetwork(t *testing.T) {
	path := filepath.Join(tempDir(t), "s.sock")
	l := listenAt(t, path)
	pid, _ := another(t, isolated(t, syscall.CLONE_NEWNET), "dial", path)
	for _, state := range []string{"waiting", "accepted"} {
		if got, want := clientsOf(t, path), pidsOf(processes([]int{pid})); got != want {
			t.Errorf("%s: %s, not %s", state, got, want)
		}
		if state == "waiting" {
			accept(t, l)
		}
	}
}

func TestClientsWhereTheKernelDoesNotTell(t *testing.T) {
	path := filepath.Join(tempDir(t), "s.sock")
	listenAt(t, path)
	all, err := Config{diag: refusing}.clients(path)
	if all != nil || err == nil || !strings.HasPrefix(err.Error(), "who is connected to "+path) {
		t.Errorf("%v, %v", all, err)
	}
}
