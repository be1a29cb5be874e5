package takeover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// taken is a path that is ours for now.
type taken struct {
	place  *Place
	name   string // of the neighbour: the server's socket, while ours is at the path
	lis    *net.UnixListener
	ours   *file // what is at the path
	server *file // what was there; dialled under no name, whatever becomes of it
	pid    int   // the server's; 0 where it is in another pid namespace

	mu sync.RWMutex // held while the files are used by other goroutines; close takes it
}

// errChanged says that the path was another's before we had it: its server has
// only just restarted.
var errChanged = errors.New("its server restarted meanwhile")

// take puts a socket of ours in the place of the server's, which is beside it
// from then on. At no moment is the path absent, and at none does it not answer:
// ready is called when ours listens, and before it is exchanged.
//
// On an error everything is as it was.
func (p *Place) take(ctx context.Context, ready func(*taken) error) (_ *taken, err error) {
	t := &taken{place: p}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if err := t.meet(ctx); err != nil {
		return nil, err
	}
	unlock, err := p.exclusive(ctx, true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := t.bind(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.path, err)
	}
	if err := t.exchange(ready); err != nil {
		if _, uerr := p.undo(t.name, false); uerr != nil {
			err = errors.Join(err, uerr)
		}
		return nil, err
	}
	return t, nil
}

// meet looks who is at the path. It is before the directory is locked, since it
// may take its time.
func (t *taken) meet(ctx context.Context) (err error) {
	p := t.place
	if p.upstream != "" {
		if err := p.putLink(); err != nil {
			return err
		}
		t.pid = p.upstreamPID()
	}
	if t.server, err = p.look(p.base); err != nil {
		return err
	}
	if err := p.refuse(t.server); err != nil || p.upstream != "" {
		return err
	}
	if t.pid, err = t.server.greet(ctx, greetWithin); err != nil {
		return fmt.Errorf("%s: %w", p.path, err)
	}
	return nil
}

// bind makes our socket, under a name of its own, as the server's is.
func (t *taken) bind() error {
	p := t.place
	first := newName()
	// Bound closed to all but us; opened below to whom the server's is open.
	old := syscall.Umask(0o177)
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.at(first), Net: "unix"})
	syscall.Umask(old)
	if err != nil {
		return fmt.Errorf("bind a socket beside it: %w%s", cause(err), mend(cause(err), p))
	}
	lis.SetUnlinkOnClose(false) // names are exchanged: never by name
	t.lis = lis
	if t.ours, err = p.look(first); err != nil {
		return err
	}
	if t.ours == nil {
		return fmt.Errorf("the socket bound beside it was removed by somebody")
	}
	if err := t.imitate(); err != nil {
		_, _ = p.removeInPlace(first, t.ours.id)
		return err
	}
	// The name says which file is ours, for whoever has to undo it.
	t.name = p.neighbour("-" + t.ours.String())
	if err := p.rename(first, t.name); err != nil {
		_, _ = p.removeInPlace(first, t.ours.id)
		return fmt.Errorf("name the socket beside it: %w%s", err, mend(err, p))
	}
	return nil
}

func (t *taken) exchange(ready func(*taken) error) error {
	p := t.place
	if err := ready(t); err != nil {
		return err
	}
	if err := p.exchange(t.name, p.base); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%s: %w", p.path, errChanged)
		}
		if changed := unlessChanged(err, p); changed != nil {
			return changed
		}
		return fmt.Errorf("%s: rename: %w", p.path, err)
	}
	out, err := p.look(t.name)
	if err != nil {
		return err
	}
	defer out.close()
	if out == nil || out.id != t.server.id {
		if out != nil {
			if err := p.exchangeBack(t.name, out, t.ours); err != nil {
				return err
			}
		}
		return fmt.Errorf("%s: %w", p.path, errChanged)
	}
	return nil
}

// imitate gives our socket the mode and owner of the server's.
func (t *taken) imitate() error {
	if t.place.upstream != "" {
		return t.imitateUpstream()
	}
	return imitate(t.ours, t.server)
}

// close stops listening and forgets.
func (t *taken) close() {
	if t == nil {
		return
	}
	if t.lis != nil {
		_ = t.lis.Close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ours.close()
	t.server.close()
}

// refuse has nobody connect to our socket any more, whoever else holds it open
// (unix_stream_connect looks at the listener's shutdown). Who had connected is
// in its backlog still.
func (t *taken) refuse() {
	if raw, err := t.lis.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RD) })
	}
	_ = t.lis.SetDeadline(time.Now()) // ends the accepting
}

// dial connects to the server: to the one that was there when the path was
// taken, and where that is gone, to whoever is at the path, if it isn't us.
func (t *taken) dial() (*net.UnixConn, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	c, err := t.server.dial()
	if err == nil || errors.Is(err, unix.EAGAIN) {
		return c, err
	}
	if at, lerr := t.place.look(t.place.base); lerr == nil && at != nil {
		defer at.close()
		if at.id != t.ours.id && at.id != t.server.id {
			return at.dial()
		}
	}
	return nil, err
}

// state is how a taken path stands.
type state uint8

const (
	held     state = iota // ours is at the path, the server's beside it
	returned              // the server's own is at its path again: somebody undid it
	lost                  // another is at the path, or nothing: the server restarted or stopped
)

func (t *taken) state() (state, error) {
	at, err := t.place.look(t.place.base)
	if err != nil {
		return lost, err
	}
	defer at.close()
	switch {
	case at == nil:
		return lost, nil
	case at.id == t.server.id:
		return returned, nil
	case at.id != t.ours.id:
		return lost, nil
	}
	return held, nil
}

// down says whether nobody listens any more where the server did.
func (t *taken) down() bool {
	if t.server.link() {
		return false // a link has no server to follow
	}
	lives, err := t.server.alive()
	return err == nil && !lives
}

// isHeld says whether ours is at the path, whatever became of the lock file.
func (t *taken) isHeld() bool {
	if t == nil {
		return false
	}
	s, err := t.state()
	return err == nil && s == held
}

// follow gives the server's own socket what somebody gave to ours: a runtime
// sets the mode and owner of its path a moment after it made it, and that is
// our socket by then if we were quick.
func (t *taken) follow() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.place.upstream != "" {
		return t.imitateUpstream()
	}
	had := *t.ours
	if err := t.ours.identify(); err != nil {
		return err
	}
	if had.mode == t.ours.mode && had.uid == t.ours.uid && had.gid == t.ours.gid {
		return nil
	}
	return imitate(t.server, t.ours)
}

// say sends descriptors: the given ones, the listener, our socket, the server's.
func (t *taken) say(c *control, k kind, text string, fds ...int) error {
	raw, err := t.lis.SyscallConn()
	if err != nil {
		return err
	}
	var said error
	err = raw.Control(func(fd uintptr) {
		said = c.say(k, text, append(fds, int(fd), int(t.ours.Fd()), int(t.server.Fd()))...)
	})
	return errors.Join(err, said)
}

// tell has a guard hold what we hold.
func (t *taken) tell(c *control) error { return t.say(c, sayTaken, t.name) }

// receiveTaken is the other end of say. It takes the descriptors over.
func receiveTaken(p *Place, name string, fds []int) (*taken, error) {
	if len(fds) != 3 {
		m := message{fds: fds}
		m.close()
		return nil, fmt.Errorf("the control socket: %d descriptors instead of three", len(fds))
	}
	t := &taken{place: p, name: name, ours: received(fds[1]), server: received(fds[2])}
	f := os.NewFile(uintptr(fds[0]), "listener")
	defer f.Close()
	lis, err := net.FileListener(f)
	if err == nil {
		t.lis, _ = lis.(*net.UnixListener)
		err = errors.Join(t.ours.identify(), t.server.identify())
	}
	if err == nil && t.lis == nil {
		err = errors.New("no Unix socket")
	}
	if err != nil {
		t.close()
		return nil, fmt.Errorf("the listener received: %w", err)
	}
	t.lis.SetUnlinkOnClose(false)
	return t, nil
}

func received(fd int) *file { return &file{File: os.NewFile(uintptr(fd), "received")} }
