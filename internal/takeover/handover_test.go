package takeover

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// streams are the two ends of a stream, as between two relays.
func streams(t *testing.T) (a, b *control) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*control
	for i, fd := range fds {
		if ends[i], err = newControl(os.NewFile(uintptr(fd), "stream")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ends[i].close)
	}
	return ends[0], ends[1]
}

// old is what a relay that stands at a path has, in a test's hands.
type old struct {
	place *Place
	lock  *lock
	*taken
	deaf bool // it waits for no OK
}

func newOld(t *testing.T) *old {
	t.Helper()
	path := filepath.Join(shortDir(t), "s.sock")
	grpcServer(t, path)
	o := &old{place: place(t, path)}
	var err error
	if o.lock, err = o.place.lock("/old/door"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.lock.release)
	if o.taken, err = o.place.take(t.Context(), nothing); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = o.place.Undo(false); o.close() })
	return o
}

// offers makes the offer to who asks for it: of all, or of the lock alone.
func (o *old) offers(t *testing.T, to *control, all bool) {
	t.Helper()
	var asked [2]byte
	_, err := io.ReadFull(to.conn, asked[:])
	if err == nil {
		_, err = to.conn.Write(make([]byte, 4)) // a Hello, of which nothing is of interest
	}
	if o.deaf {
		_ = to.conn.CloseRead()
	}
	if err == nil && !all {
		err = to.say(sayOffer, (&offer{}).text(), int(o.lock.file.Fd()))
	} else if err == nil {
		text := (&offer{name: o.name, server: o.pid}).text()
		err = o.say(to, sayOffer, text, int(o.lock.file.Fd()))
	}
	if err != nil {
		t.Error(err)
	}
}

// heir is a relay that is to take the old one's place.
func (o *old) heir(t *testing.T, ready func(string)) *relay {
	t.Helper()
	r, err := newRelay(Config{
		Path: o.place.path, Door: filepath.Join(t.TempDir(), "own", "door"), StateDir: t.TempDir(),
		Unguarded: true, Log: slog.New(slog.DiscardHandler), Ready: ready,
	})
	if err == nil {
		err = r.find()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

// A relay that could not take the place of another has taken none of its clients,
// and leaves the lock in its name.
func TestHeirRenounces(t *testing.T) {
	o := newOld(t)
	was := signature{4711, "/old/door"}
	if err := o.lock.write(was); err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("unix", o.place.path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r := o.heir(t, nil)
	ours, theirs := streams(t)
	o.deaf = true // it has waited long enough
	go o.offers(t, ours, true)
	if err := r.succeed(t.Context(), theirs.conn); err == nil {
		t.Error("it took the place of a relay that let go of it")
	}
	_ = o.lis.SetDeadline(time.Now().Add(5 * time.Second))
	if c, err := o.lis.Accept(); err != nil {
		t.Errorf("the client that waited is gone: %v", err)
	} else {
		_ = c.Close()
	}
	if s := o.lock.read(); s != was || !o.lock.isOurs() {
		t.Errorf("the lock is signed by %+v", s)
	}
	if !o.isHeld() {
		t.Error("the path is given back")
	}
}

// A relay that is to relay elsewhere does not take the place: it would not.
func TestHeirOfAnother(t *testing.T) {
	o := newOld(t)
	r := o.heir(t, nil)
	r.place.upstream = "/elsewhere"
	ours, theirs := streams(t)
	go o.offers(t, ours, true)
	if err := r.succeed(t.Context(), theirs.conn); err == nil || !strings.Contains(err.Error(), "/elsewhere") {
		t.Error(err)
	}
	if !o.isHeld() || !o.lock.isOurs() {
		t.Error("the old one has lost its path")
	}
}

// A service manager is told who the service is before the old relay may end: when
// the process that it knows of ends, it ends all others.
func TestHeirIsKnown(t *testing.T) {
	for _, all := range []bool{true, false} {
		o := newOld(t)
		var said []string
		r := o.heir(t, func(status string) { said = append(said, status) })
		ours, theirs := streams(t)
		go o.offers(t, ours, all)
		if err := r.succeed(t.Context(), theirs.conn); err != nil {
			t.Error(err)
		}
		if len(said) != 1 {
			t.Errorf("all was offered: %t, and the manager was told %q", all, said)
		}
		if all {
			r.stopAccepting()
		}
		r.door.Close()
		_ = r.lock.file.Close()
		r.lock = nil
	}
}

// An OK that was said in time counts, though it is heard late: who said it serves.
func TestHeardInTime(t *testing.T) {
	old, next := streams(t)
	if err := next.say(sayOK, ""); err != nil {
		t.Fatal(err)
	}
	_ = old.conn.SetDeadline(time.Now().Add(-time.Second))
	if m, err := old.hearInTime(); err != nil || m.kind != sayOK {
		t.Errorf("heard %q, %v", m.kind, err)
	}

	old, next = streams(t)
	_ = old.conn.SetDeadline(time.Now().Add(-time.Second))
	if m, err := old.hearInTime(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("heard %q, %v", m.kind, err)
	}
	if err := next.say(sayOK, ""); !errors.Is(err, unix.EPIPE) {
		t.Errorf("said too late: %v", err)
	}
}

// The old relay goes on until the next one has all, its door too.
func TestHandOverWaits(t *testing.T) {
	o := newOld(t)
	r := o.heir(t, nil) // only by its fields the old one
	r.lock = receivedLock(r.place, must(t)(unix.Dup(int(o.lock.file.Fd()))))
	ours, theirs := streams(t)
	over := make(chan bool, 1)
	go func() { over <- r.handOver(ours.conn) }()
	m, err := theirs.hear()
	if err != nil || m.kind != sayOffer || len(m.fds) != 1 {
		t.Fatalf("%q with %d descriptors, %v", m.kind, len(m.fds), err)
	}
	m.close()
	if err := theirs.say(sayOK, ""); err != nil {
		t.Fatal(err)
	}
	select {
	case <-over:
		t.Fatal("it leaves before the other has all")
	case <-time.After(100 * time.Millisecond):
	}
	theirs.close()
	if !<-over {
		t.Error("it has not handed over")
	}
	_ = r.lock.file.Close()
	r.lock = nil
}

func must(t *testing.T) func(int, error) int {
	return func(n int, err error) int {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

// Whoever reads a lock while it is signed finds a name in it.
func TestLockIsAlwaysSigned(t *testing.T) {
	o := newOld(t)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_ = o.lock.write(signature{100 + i%2*100000, strings.Repeat("/door", 1+i%2*20)})
		}
	}()
	for range 20000 {
		if s := o.lock.read(); s.pid == 0 || !strings.HasPrefix(s.door, "/door") && s.door != "/old/door" {
			t.Errorf("it is signed by %+v", s)
			break
		}
	}
	close(stop)
	<-done
}
