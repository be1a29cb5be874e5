package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Door is a named socket where taps come to a relay, which it outlives: raw bytes
// leave by it. Its rules: its directory is one that its owner alone may enter,
// and who comes is root or that owner.
type Door struct {
	path string
	lis  *OwnListener

	mu     sync.Mutex
	inside map[*net.UnixConn]struct{} // who has come and not said what for
	guests int                        // all that are let in, those too
	shut   bool
	ended  sync.WaitGroup
}

const (
	// knocking is how long who comes may take to say what for.
	knocking = 10 * time.Second
	// maxGuests bounds who is let in at a time: each has a queue, which lasts as
	// long as it stays.
	maxGuests = 32
)

// MakeDoor makes a door that is not at its path yet, whose directory it makes where
// there is none.
func MakeDoor(path string) (*Door, error) {
	lis, err := ListenOwn("unix", path)
	if err != nil {
		return nil, fmt.Errorf("the taps' socket %s: %w", path, err)
	}
	return &Door{path: path, lis: lis, inside: map[*net.UnixConn]struct{}{}}, nil
}

// Open puts the door at its path. A socket that is there is replaced, and at no
// moment is there none: it is that of a relay that was killed, or of one whose
// place this one takes.
func (d *Door) Open() error {
	if err := d.lis.Open(); err != nil {
		return fmt.Errorf("the taps' socket %s: %w", d.path, err)
	}
	return nil
}

// Serve seats the taps that come in a's rows, each heard until it leaves, until
// Close. handOver is given the connection of a relay that takes our place; nil:
// none may.
func (d *Door) Serve(a *Audience, handOver func(*net.UnixConn)) {
	var pause backoff
	for {
		c, err := d.lis.AcceptUnix()
		switch {
		case err == nil:
			pause = 0
			d.enter(c, a, handOver)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			pause.wait(context.Background())
		}
	}
}

func (d *Door) enter(c *net.UnixConn, a *Audience, handOver func(*net.UnixConn)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut || d.guests == maxGuests || !Trusted(c) {
		_ = c.Close()
		return
	}
	d.guests++
	d.inside[c] = struct{}{}
	d.ended.Go(func() { d.host(c, a, handOver) })
}

func (d *Door) host(c *net.UnixConn, a *Audience, handOver func(*net.UnixConn)) {
	defer d.left()
	_ = c.SetReadDeadline(time.Now().Add(knocking))
	t, err := a.Admit(c)
	_ = c.SetReadDeadline(time.Time{})
	d.mu.Lock()
	delete(d.inside, c)
	d.mu.Unlock()
	switch {
	case err == nil:
		a.Hear(t)
		a.Leave(t)
	case err != errHandOver:
	case handOver == nil:
		_ = c.Close()
	default:
		handOver(c)
	}
}

func (d *Door) left() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.guests--
}

// Shut removes the door, if it is ours still: nobody can come any more.
func (d *Door) Shut() { d.lis.Shut() }

// Close is Shut, and waits until all that came by it have left. The audience is to
// be closed before.
func (d *Door) Close() {
	d.Shut()
	d.mu.Lock()
	d.shut = true
	for c := range d.inside {
		_ = c.Close()
	}
	d.mu.Unlock()
	d.ended.Wait()
}

// Knock connects a tap, or a relay that takes another's place, to a relay's door.
func Knock(path string) (*net.UnixConn, error) { return knock("unix", path) }

// KnockPacket connects a relay to a guard's service.
func KnockPacket(path string) (*net.UnixConn, error) { return knock("unixpacket", path) }

func knock(network, path string) (*net.UnixConn, error) {
	// By the file itself: its path may be longer than sun_path.
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", path, cause(err))
	}
	defer f.Close()
	at := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	c, err := net.DialUnix(network, nil, &net.UnixAddr{Name: at, Net: network})
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", path, cause(err))
	}
	if !Trusted(c) {
		_ = c.Close()
		return nil, fmt.Errorf("dial %s: it is another user's", path)
	}
	return c, nil
}
