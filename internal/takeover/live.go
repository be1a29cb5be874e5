package takeover

// Live attach: clients that were connected before the path was taken are asked to
// dial it anew, by one GOAWAY frame on the server's end of their connection. Its
// server neither does nor knows it: pidfd_getfd(2) gives a duplicate of the
// descriptor for as long as one write takes.
//
// It is the most dangerous thing that is done here. The frame must stand between
// two of the server's, and nobody has followed those: grpc-go writes its buffer
// of 32 KiB in the midst of a frame, so that empty queues alone say nothing. What
// does: the server is at rest. A frame that was begun is either being written by
// a goroutine that could go on, and a Go process in which one could go on is not
// asleep, or its rest waits for room in the client's queue, which is then not
// empty. Hence all of these, or nothing is written:
//
//   - The server is grpc-go, in our pid namespace, and greets before it is spoken
//     to: every connection of the listener's is its, without TLS, and none is
//     HTTP/1.1 (CRI-O tells the two apart by what its clients say first).
//   - The client is none that may exit when it is sent off (proxy.Keeps).
//   - The connection is older than a handshake takes.
//   - Its queues were empty for 250 ms, whenever we looked, the machine had
//     processors to spare, and we were never late.
//   - Then, at once: the path is ours; the server has not run for longer than Go's
//     own watchdog leaves a goroutine waiting; all its threads are asleep; its
//     queues are empty.
//   - It was not done to this connection before, in this session or another.
//
// One thing can't be seen: that the server has itself said GOAWAY with a lower
// number, and lets old calls run (MaxConnectionAge, which no runtime sets). Ours
// would then be an error to the client (RFC 9113, 6.8).

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// Older is a connection that may be older than its path's takeover.
type Older struct {
	Server  int       // pid of the process that has accepted it
	Inode   uint32    // of the server's end
	Cookie  uint64    // of the server's end: SO_COOKIE
	Clients []string  // executables of who holds the other end; none: it can't be told
	Seen    time.Time // when it was first seen to be there
}

const (
	// oldEnough is the age at which a client has surely greeted.
	oldEnough = 5 * time.Second
	// moveWithin is how long the moment is waited for.
	moveWithin = 30 * time.Second
	// sampleEvery is how often it is looked for.
	sampleEvery = time.Millisecond
	// strikeWithin is how long the last look may take, from its first question to
	// the write: a server that it found at rest has written nothing since.
	strikeWithin = time.Millisecond
)

// Mover sends clients off connections that are older than the takeover of their
// path. Its methods may be called at the same time.
type Mover struct {
	place *Place
	sent  *ledger

	mu      sync.Mutex
	servers map[int]error // by pid, those that were looked into: why not

	// Test seams; 0 and nil: what the constants and the rules say.
	within time.Duration
	ready  func(*quiet, sample) error
}

// NewMover is for a path that is ours.
func NewMover(path, stateDir string) (*Mover, error) {
	sent, err := openLedger(filepath.Join(stateDir, "sent-off"))
	if err != nil {
		return nil, err
	}
	p, err := Open(path)
	if err != nil {
		sent.close()
		return nil, err
	}
	return &Mover{place: p, sent: sent, servers: map[int]error{}}, nil
}

// Close is for when all SendOffs have returned.
func (m *Mover) Close() {
	m.sent.close()
	m.place.Close()
}

// ErrGone is a connection's end before anything was done to it.
var ErrGone = errors.New("it has ended")

// SendOff has a connection's client dial anew, at a moment at which that can't
// hurt. Its error says why it was not done, and what would have the client seen.
func (m *Mover) SendOff(ctx context.Context, c Older) error {
	if len(c.Clients) == 0 || slices.ContainsFunc(c.Clients, proxy.Keeps) {
		return errors.New("it is of those that may exit when they are sent off, or it can't be told who it is; it is seen when it is restarted")
	}
	if m.sent.has(c.Cookie) {
		return errors.New("it was sent off by an earlier session, and only calls older than that go on there; they are seen if they are made anew")
	}
	if err := m.suits(ctx, c.Server); err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	e, err := openEnd(c)
	if err != nil {
		return err
	}
	defer e.close()
	if !sleep(ctx, time.Until(c.Seen.Add(oldEnough))) {
		return ctx.Err()
	}
	return m.await(ctx, e)
}

// suits says why a server's connections must be left alone. A server is looked
// into once.
func (m *Mover) suits(ctx context.Context, pid int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err, known := m.servers[pid]
	if !known {
		if err = inOurNamespace(pid); err == nil {
			err = isGRPCGo(fmt.Sprintf("/proc/%d/exe", pid))
		}
		if err == nil {
			err = m.greetsFirst(ctx)
		}
		m.servers[pid] = err
	}
	return err
}

// await waits for the moment, and does it.
func (m *Mover) await(ctx context.Context, e *end) error {
	within := cmp.Or(m.within, moveWithin)
	ready := m.ready
	if ready == nil {
		ready = (*quiet).add
	}
	q, why := quiet{}, error(nil)
	for until := time.Now().Add(within); time.Now().Before(until); {
		s, err := e.look()
		if err != nil {
			return err
		}
		if why = ready(&q, s); why == nil {
			if why = m.strike(e, s); why == nil {
				return m.sent.add(e.Cookie, e.Server, m.place.path)
			}
			if !slices.Contains(moments, why) {
				return why
			}
			_ = q.again(why)
		}
		if !sleep(ctx, sampleEvery) {
			return ctx.Err()
		}
	}
	return fmt.Errorf("there was no moment within %v at which it is safe: %w; try again when there is less to do, or restart the client", within, why)
}

// strike looks once more, and writes.
func (m *Mover) strike(e *end, s sample) error {
	if st, err := Read(m.place.path); err != nil || !st.Taken || st.By == 0 {
		return errors.New("its path is not grpc-tap's any more")
	}
	fd, err := e.duplicate()
	if err != nil {
		return err
	}
	defer closeFD(fd)
	began := time.Now()
	asleep, err := e.asleep()
	if err != nil {
		return err
	}
	ran, err := processorTime(e.Server)
	switch {
	case err != nil:
		return err
	case !asleep, ran != s.ran:
		return errAtWork
	case queued(fd):
		return errQueued
	case time.Since(began) > strikeWithin:
		return errCrowded
	}
	return sayGoAway(fd)
}

// sleep waits; false: ctx is done.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
