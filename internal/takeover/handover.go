package takeover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// A relay takes the place of another by the other's listening socket itself, and
// the lock: nothing in the directory changes, and no client is refused. What the
// two say to each other is independent of the mirror's version, for that is what
// an upgrade changes:
//
//	new  knocks at the old one's door, and asks for HandOver
//	old  an offer: the lock, and if it has the path, listener, own socket, server's
//	new  (has its guard hold them)  OK; accepts, opens its own door in the place of the old one's, hangs up
//	old  (accepts no more, lets its guard go, sends its clients off, relays the rest)
//
// Until the OK the old one has the path, and either one's death leaves the other
// or a guard with it. The new one has accepted nobody before, whom it would have to
// drop; the old one accepts until the other hangs up, so that at no time nobody does.

// handedOver is why a relay ends whose place another has taken.
const handedOver = "another relay takes its place"

// handOverWithin is how long the other relay may take for a step.
const handOverWithin = 10 * time.Second

// standing connects to a relay that stands at the path; nil: none does.
func (p *Place) standing() (*net.UnixConn, error) {
	pid, door := p.Holder()
	if pid == 0 || door == "" {
		return nil, nil
	}
	c, err := proxy.Knock(door)
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		err = fmt.Errorf("%w (%w)", errDying, err)
		fallthrough
	case err != nil:
		return nil, fmt.Errorf("%s: a relay (pid %d) is on it, and its door can't be reached: %w; end it: grpc-tap restore %[1]s", p.path, pid, err)
	}
	return c, nil
}

// errDying is of a relay that has died or is about to end, and whose lock is still
// its guard's.
var errDying = errors.New("it is about to end")

// ErrYielded is why a relay ends that left the path to the one that stands there.
var ErrYielded = errors.New("the relay that stands there stays")

// succeed takes the place of the relay at the other end.
func (r *relay) succeed(ctx context.Context, c *net.UnixConn) (err error) {
	old := &control{c}
	defer old.close()
	defer context.AfterFunc(ctx, old.close)()
	pid, _ := proxy.Peer(c)
	if r.cfg.Yields != nil && r.cfg.Yields(pid) {
		return fmt.Errorf("%s: %w (pid %d)", r.place.path, ErrYielded, pid)
	}
	_ = c.SetDeadline(time.Now().Add(handOverWithin))
	unsign := func() {}
	defer func() {
		if err != nil {
			unsign()
			r.renounce()
			err = fmt.Errorf("%s: take the place of the relay there (pid %d): %w; it goes on; to end it: grpc-tap restore %[1]s", r.place.path, pid, err)
		}
	}()
	t, err := r.receive(old)
	if err != nil {
		return err
	}
	if t != nil {
		r.last.Swap(t).close()
		if err := r.guarded(ctx, t); err != nil {
			return err
		}
	}
	if r.door, err = proxy.MakeDoor(r.cfg.Door); err != nil {
		return err
	}
	lock, was := r.lock, r.lock.read()
	unsign = func() { _ = lock.write(was) } // it goes on, and may have done so before we signed
	if err := r.lock.sign(r.cfg.Door); err != nil {
		return err
	}
	if err := old.say(sayOK, ""); err != nil {
		return err
	}
	// From here on it is ours, and too late to renounce.
	if t != nil {
		r.accept(t)
		r.hold(t)
	} else {
		// The old one may end at once: a service manager is to know by then that
		// the service goes on as this process.
		r.isReady()
	}
	if err := r.door.Open(); err != nil {
		r.log.Error("no tap can come", "cause", err)
	}
	r.log.Info("took the place of another relay, which relays its connections to their end", "pid", pid)
	return nil
}

// renounce leaves all to the old relay, after a step failed.
func (r *relay) renounce() {
	r.guard.say(sayHanded)
	if r.lock != nil {
		_ = r.lock.file.Close() // not released: it is the other's too
		r.lock = nil
	}
	if r.door != nil {
		r.door.Close()
	}
}

// receive takes an offer; nil: the old relay has not the path at the moment.
func (r *relay) receive(old *control) (*taken, error) {
	if err := mirror.Ready(old.conn, mirror.HandOver); err != nil {
		return nil, err
	}
	if err := skipHello(old.conn); err != nil {
		return nil, err
	}
	m, err := old.hear()
	if err != nil {
		return nil, err
	}
	o, err := parseOffer(m.text)
	if err != nil || m.kind != sayOffer || len(m.fds) != 1 && len(m.fds) != 4 {
		m.close()
		return nil, errors.Join(errors.New("it makes no offer that can be understood"), err)
	}
	r.lock = receivedLock(r.place, m.fds[0])
	if !r.lock.isOurs() {
		m.close()
		return nil, errors.New("its lock is not that of the path")
	}
	if len(m.fds) == 1 {
		return nil, nil
	}
	t, err := receiveTaken(r.place, o.name, m.fds[1:])
	if err != nil {
		return nil, err
	}
	t.pid = o.server
	switch {
	case t.server.target != r.place.upstream:
		err = fmt.Errorf("it relays to %q, and we are to relay to %q", t.server.target, r.place.upstream)
	case !t.isHeld():
		err = errors.New("the path is not its own any more")
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// skipHello passes over the mirror's first event, whatever its version.
func skipHello(in io.Reader) error {
	var length [4]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > mirror.MaxEvent {
		return mirror.ErrFormat
	}
	_, err := io.CopyN(io.Discard, in, int64(n))
	return err
}

// handOver offers all that we have to a relay that takes our place. True: it has.
func (r *relay) handOver(c *net.UnixConn) bool {
	next := &control{c}
	defer next.close()
	pid, _ := proxy.Peer(c)
	_ = c.SetDeadline(time.Now().Add(handOverWithin))
	err := r.offer(next)
	var m message
	if err == nil {
		m, err = next.hearInTime()
		m.close()
	}
	if err == nil && m.kind == sayOK {
		_ = c.SetDeadline(time.Now().Add(handOverWithin))
		_, _ = next.hear() // its hanging up: it accepts, and has its door where ours was
		r.log.Info("another relay has taken the place of this one, which relays its connections to their end", "pid", pid)
		return true
	}
	r.log.Warn("another relay wanted to take the place of this one, and did not", "pid", pid, "cause", err)
	if err := r.lock.sign(r.cfg.Door); err != nil {
		r.log.Error("the lock names the wrong relay", "cause", err)
	}
	return false
}

// hearInTime hears what was said before the deadline, also where we were kept from
// hearing it: who said it was told that it is said. Nobody can say anything after.
func (c *control) hearInTime() (message, error) {
	m, err := c.hear()
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return m, err
	}
	_ = c.conn.CloseRead()
	_ = c.conn.SetReadDeadline(time.Time{}) // it ends at once now
	if m, herr := c.hear(); herr == nil {
		return m, nil
	}
	return message{}, err
}

func (r *relay) offer(next *control) error {
	o := offer{}
	if !r.held {
		return next.say(sayOffer, o.text(), int(r.lock.file.Fd()))
	}
	t := r.last.Load()
	o.name, o.server = t.name, t.pid
	return t.say(next, sayOffer, o.text(), int(r.lock.file.Fd()))
}

// stopAccepting leaves the listener to who else holds it.
func (r *relay) stopAccepting() {
	_ = r.last.Load().lis.SetDeadline(time.Now())
	<-r.accepting
}

// passOn is after another relay has taken our place.
func (r *relay) passOn() {
	if r.held {
		r.stopAccepting()
	}
	r.guard.say(sayHanded)
	_ = r.lock.file.Close() // not released: it is the other's now
	r.lock = nil
	r.taps.Detached(len(r.engine.Clients()))
	time.Sleep(moment) // for the taps to be there before the clients are
	if !r.cfg.KeepClients {
		r.engine.SendOff()
	}
	r.engine.Drain(context.Background(), r.cfg.Drain)
}

// offer is what an old relay says of what it hands over. A later version may add
// fields at the end.
type offer struct {
	name   string // of the neighbour
	server int    // its pid
}

func (o *offer) text() string { return fmt.Sprintf("%s\x00%d", o.name, o.server) }

func parseOffer(text string) (o offer, err error) {
	f := strings.Split(text, "\x00")
	if len(f) < 2 {
		return o, fmt.Errorf("an offer of %d fields", len(f))
	}
	o.name = f[0]
	o.server, err = strconv.Atoi(f[1])
	return o, err
}
