package discover

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inodeOf is a connection's own inode number and cookie, as its process has them.
func inodeOf(t *testing.T, c net.Conn) (ino uint32, cookie uint64) {
	t.Helper()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		var st unix.Stat_t
		if err := unix.Fstat(int(fd), &st); err != nil {
			t.Error(err)
		}
		ino = uint32(st.Ino)
		if cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return ino, cookie
}

// A connection is known by the server's end, with who holds which; one that waits
// to be accepted has no such end, and one of another socket's is not listed.
func TestConnections(t *testing.T) {
	dir := tempDir(t)
	path, aside, other := filepath.Join(dir, "x.sock"), filepath.Join(dir, ".x.sock.up"), filepath.Join(dir, "other.sock")
	l, lo := listenAt(t, path), listenAt(t, other)
	pid, hangUp := another(t, nil, "dial", path, other)
	accepted := accept(t, l)
	accept(t, lo)
	_, _ = another(t, nil, "dial", path) // and waits
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	got, err := Connections(nil, aside)
	if err != nil && os.Getuid() == 0 {
		t.Fatal(err)
	}
	ino, cookie := inodeOf(t, accepted)
	if len(got) != 1 || got[0].Inode != ino || got[0].Cookie != cookie ||
		pidsOf(got[0].Servers) != pidsOf(self()) || pidsOf(got[0].Clients) != pidsOf(processes([]int{pid})) {
		t.Errorf("%+v, not one of inode %d and cookie %d from %d to %d", got, ino, cookie, pid, os.Getpid())
	}
	if got, err := Connections([]int{pid}, aside); len(got) != 0 || err != nil && os.Getuid() == 0 {
		t.Errorf("but for those of %d: %+v, %v", pid, got, err)
	}
	hangUp()
	if got, _ := Connections(nil, aside); len(got) != 0 {
		t.Errorf("after it has hung up: %+v", got)
	}
}

// What is hung up between the kernel's answer and the look at processes is no
// connection of somebody unknown.
func TestConnectionsHungUpMeanwhile(t *testing.T) {
	path := filepath.Join(tempDir(t), "s.sock")
	l := listenAt(t, path)
	_, hangUp := another(t, nil, "dial", path)
	accept(t, l)
	asked := 0
	got, err := Config{diag: func(ns *os.File) ([]sock, error) {
		socks, err := unixDiag(ns)
		if asked++; asked == 1 {
			hangUp()
		}
		return socks, err
	}}.connections(nil, path)
	if asked < 2 || err != nil || len(got) != 0 {
		t.Errorf("asked %d times: %+v, %v", asked, got, err)
	}
}

// Those of many sockets take one look at the machine, and what can't be seen of one is
// said beside what can of the others.
func TestConnectionsOfSeveral(t *testing.T) {
	dir := tempDir(t)
	var paths []string
	var accepted []net.Conn
	for _, name := range []string{"a", "b", "c"} {
		path := filepath.Join(dir, name)
		l := listenAt(t, path)
		if name != "c" {
			another(t, nil, "dial", path)
			accepted = append(accepted, accept(t, l))
		}
		paths = append(paths, path)
	}
	looks := 0
	counting := Config{diag: func(ns *os.File) ([]sock, error) {
		if ns == nil {
			looks++
		}
		return unixDiag(ns)
	}}
	got, err := counting.connections(nil, append(paths, filepath.Join(dir, "none"))...)
	if err == nil || !strings.Contains(err.Error(), "none") || looks != 1 {
		t.Errorf("%d looks, %v", looks, err)
	}
	seen := map[uint32]bool{}
	for _, c := range got {
		seen[c.Inode] = true
	}
	for _, c := range accepted {
		if ino, _ := inodeOf(t, c); !seen[ino] || len(got) != len(accepted) {
			t.Errorf("%v, without %d", got, ino)
		}
	}
}

func TestConnectionsOfAnotherNetwork(t *testing.T) {
	path := filepath.Join(tempDir(t), "s.sock")
	l := listenAt(t, path)
	pid, _ := another(t, isolated(t, syscall.CLONE_NEWNET), "dial", path)
	accept(t, l)
	got, err := Connections(nil, path)
	if err != nil || len(got) != 1 || pidsOf(got[0].Clients) != pidsOf(processes([]int{pid})) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestConnectionsWhereTheKernelDoesNotTell(t *testing.T) {
	path := filepath.Join(tempDir(t), "s.sock")
	listenAt(t, path)
	all, err := Config{diag: refusing}.connections(nil, path)
	if all != nil || err == nil || !strings.HasPrefix(err.Error(), "the connections of "+path) {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := Connections(nil, path+".none"); err == nil {
		t.Error("of nothing: no error")
	}
}
