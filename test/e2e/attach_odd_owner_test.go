package e2e

import (
	"context"
	encoding "encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// user is somebody who may dial, or not.
type user struct{ uid, gid int }

// call makes one call as another user: EACCES where the path is closed to it.
func (u user) call(t testing.TB, path string) error {
	t.Helper()
	// On a thread that ends with it: credentials are a thread's own in Linux.
	dialled, failed := make(chan net.Conn, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		for _, become := range [][2]int{{unix.SYS_SETGROUPS, 0}, {unix.SYS_SETRESGID, u.gid}, {unix.SYS_SETRESUID, u.uid}} {
			id := uintptr(become[1])
			if _, _, no := unix.RawSyscall(uintptr(become[0]), id, id, id); no != 0 {
				failed <- fmt.Errorf("become %+v: %w", u, no)
				return
			}
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			failed <- err
			return
		}
		dialled <- c
	}()
	select {
	case err := <-failed:
		return err
	case c := <-dialled:
		conn, err := grpc.NewClient("passthrough:///socket", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return c, nil }))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = cri.NewRuntimeServiceClient(conn).Version(t.Context(), &cri.VersionRequest{})
		return err
	}
}

// TestAttachOwner attaches to sockets that are others', and closed to some: who
// may dial is the same before, during and after, and so are mode and owner.
func TestAttachOwner(t *testing.T) {
	needRoot(t, "it gives files away")
	const owner, group = 12345, 23456
	users := map[string]user{
		"root": {0, 0}, "the owner": {owner, 1}, "one of the group": {1, group}, "somebody": {1, 1},
	}
	for mode, may := range map[uint32][]string{
		0o600: {"root", "the owner"},
		0o660: {"root", "the owner", "one of the group"},
		0o060: {"root", "one of the group"},
		0o666: {"root", "the owner", "one of the group", "somebody"},
		0o000: {"root"},
	} {
		t.Run(fmt.Sprintf("%04o", mode), func(t *testing.T) {
			n := newFakeNode(t)
			own(t, n.cri, owner, group, mode)
			check := func(when string) {
				t.Helper()
				for name, u := range users {
					switch err := u.call(t, n.cri); {
					case slices.Contains(may, name) && err != nil:
						t.Errorf("%s may not dial %s: %v", name, when, err)
					case !slices.Contains(may, name) && !errors.Is(err, unix.EACCES):
						t.Errorf("%s dials %s: %v", name, when, err)
					}
				}
			}
			undisturbed(t, n.cri, func() {
				check("before")
				a := attach(t, n.cri)
				if now := lookAt(t, n.cri); now.Mode != a.was.Mode || now.UID != owner || now.GID != group {
					t.Errorf("was %+v, and is %+v while attached", a.was, now)
				}
				check("while attached")
				a.detach()
				check("after")
			})
		})
	}
}

// own gives a socket an owner and a mode, and makes its directory one that all
// may enter.
func own(t testing.TB, path string, uid, gid int, mode uint32) {
	t.Helper()
	err := errors.Join(os.Chmod(filepath.Dir(path), 0o755), unix.Chown(path, uid, gid), unix.Chmod(path, mode))
	if err != nil {
		t.Fatal(err)
	}
}

// TestAttachACL attaches to a socket that an access control list opens to one
// more user, and closes to its group.
func TestAttachACL(t *testing.T) {
	needRoot(t, "it gives files away")
	n := newFakeNode(t)
	own(t, n.cri, 12345, 23456, 0o660)
	const listed = 3
	var acl []byte
	acl = encoding.LittleEndian.AppendUint32(acl, 2) // the format's version
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 6, ^uint32(0)}, {0x02, 6, listed}, {0x04, 0, ^uint32(0)}, {0x10, 6, ^uint32(0)}, {0x20, 0, ^uint32(0)}} {
		acl = encoding.LittleEndian.AppendUint16(acl, e.tag)
		acl = encoding.LittleEndian.AppendUint16(acl, e.perm)
		acl = encoding.LittleEndian.AppendUint32(acl, e.id)
	}
	if err := unix.Setxattr(n.cri, "system.posix_acl_access", acl, 0); err != nil {
		t.Skipf("this machine cannot run it: no access control lists on %s: %v", n.cri, err)
	}
	check := func(when string) {
		t.Helper()
		if err := (user{listed, 1}).call(t, n.cri); err != nil {
			t.Errorf("who is listed may not dial %s: %v", when, err)
		}
		if err := (user{1, 23456}).call(t, n.cri); !errors.Is(err, unix.EACCES) {
			t.Errorf("one of the group, which is not listed, dials %s: %v", when, err)
		}
	}
	undisturbed(t, n.cri, func() {
		check("before")
		a := attach(t, n.cri)
		check("while attached")
		a.detach()
		check("after")
	})
}

// TestAttachOwnerChanges changes mode and owner of a path while it is taken, as
// a runtime does that has only just started, or an operator: it is so
// afterwards too, however the path is given back.
func TestAttachOwnerChanges(t *testing.T) {
	needRoot(t, "it gives files away")
	for name, back := range map[string]func(a *attached){
		"detach":       func(a *attached) { a.detach() },
		"relay killed": func(a *attached) { a.kill(a.relay, unix.SIGKILL); a.fails(); a.isBack() },
		"restore": func(a *attached) {
			if out, err := tap(t, "restore", a.Listen); err != nil {
				t.Errorf("restore: %v\n%s", err, out)
			}
			a.fails()
			a.isBack()
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newFakeNode(t)
			l := runtimeTraffic(t, n.cri)
			a := attach(t, n.cri)
			l.more(20)
			own(t, n.cri, 12345, 23456, 0o640)
			server := neighbour(t, n.cri)
			eventually(t, "the server's own socket is changed alike", func() bool {
				now := lookAt(t, server)
				return now.Mode == unix.S_IFSOCK|0o640 && now.UID == 12345 && now.GID == 23456
			})
			a.was.Mode, a.was.UID, a.was.GID = unix.S_IFSOCK|0o640, 12345, 23456
			back(a)
			l.more(20)
			if name != "relay killed" {
				l.end()
			}
			l.stop()
			answers(t, n.cri)
			nobodyStays(t)
		})
	}
}

// TestAttachOwnerChangesLast changes the mode right before the end: that is kept
// too.
func TestAttachOwnerChangesLast(t *testing.T) {
	n := newFakeNode(t)
	for i := range rounds(10, 100) {
		a := attach(t, n.cri)
		mode := uint32(0o600 + i%2*0o22)
		if err := unix.Chmod(n.cri, mode); err != nil {
			t.Fatal(err)
		}
		a.was.Mode = unix.S_IFSOCK | mode
		a.detach()
		if t.Failed() {
			t.Fatalf("in round %d", i)
		}
	}
	nobodyStays(t)
}
