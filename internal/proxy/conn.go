package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
)

// chunk is the size of the one buffer per direction, in bytes: grpc-go's own
// write buffer, so that what it flushes at once passes at once.
const chunk = 32 << 10

// conn is one client and, once it is dialled, its upstream.
type conn struct {
	*Options
	number uint64
	client *net.UnixConn
	out    toClient // the way to client
	who    Client

	// All four are set under the Relay's mu.
	mirror atomic.Pointer[mirror.Conn] // nil until it is open
	peers  mirror.Peers
	opened time.Time
	asked  bool // Redial was called

	mu       sync.Mutex
	upstream *net.UnixConn
	ended    bool // one of the two sides has, by itself
	aborted  bool
	reason   string // why it ended, if in no ordinary way
}

// relay copies both ways until both are over. It returns why that was, if in no
// ordinary way.
func (c *conn) relay(upstream *net.UnixConn) (reason string) {
	c.mu.Lock()
	c.upstream = upstream
	aborted := c.aborted
	c.mu.Unlock()
	if aborted { // while it was dialled
		_ = upstream.Close()
	}
	var back sync.WaitGroup
	back.Go(c.serverToClient)
	c.clientToServer()
	back.Wait()
	return c.abort("")
}

func (c *conn) clientToServer() { c.pump(mirror.FromClient, c.client, c.upstream) }
func (c *conn) serverToClient() { c.pump(mirror.FromServer, c.upstream, &c.out) }

// pump copies one direction. The copy is mirrored before the bytes are passed
// on, so that the mirror never holds an answer before its question.
func (c *conn) pump(d mirror.Dir, from *net.UnixConn, to outlet) {
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			c.mirror.Load().Chunk(d, buf[:n])
			if _, werr := to.Write(buf[:n]); werr != nil {
				c.unwritable(from, werr)
				return
			}
			c.Moved.Add(uint64(n))
		}
		if err != nil {
			c.unreadable(d, from, to, err)
			return
		}
	}
}

// unwritable ends a direction whose bytes cannot be passed on.
func (c *conn) unwritable(from *net.UnixConn, err error) {
	if errors.Is(err, net.ErrClosed) {
		return // for the other direction's sake
	}
	if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		// The kernel had no memory for it. Bytes are missing now, so there is no
		// going on: both ends see the connection fail.
		c.abort("write: " + cause(err).Error())
		return
	}
	// Nobody reads there any more. Say so to the sender in the way that the
	// kernel would: its writes fail, it may still read. What it has queued is
	// taken, or a write that waits for room would wait for good.
	_ = from.CloseRead()
	_, _ = io.Copy(io.Discard, from)
}

// unreadable ends a direction from which no more bytes come.
func (c *conn) unreadable(d mirror.Dir, from *net.UnixConn, to outlet, err error) {
	if c.endsFirst() && d == mirror.FromServer {
		c.Lost()
	}
	switch {
	case !errors.Is(err, io.EOF):
		c.abort("") // reset by its peer, or closed for the other direction's sake
	case gone(from):
		c.mirror.Load().End(d)
		c.abort("")
	default:
		c.mirror.Load().End(d)
		_ = to.CloseWrite()
	}
}

// endsFirst says whether no side has ended by itself before.
func (c *conn) endsFirst() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !c.ended && !c.aborted
	c.ended = true
	return first
}

// sendOff asks the client to dial anew, as soon as that can be said.
func (c *conn) sendOff() {
	if err := c.out.ask(); err != nil {
		c.abort("write: " + cause(err).Error())
	}
}

// abort closes both sides and returns why: the first reason given stays.
func (c *conn) abort(reason string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aborted = true
	_ = c.client.Close()
	if c.upstream != nil {
		_ = c.upstream.Close()
	}
	if c.reason == "" {
		c.reason = reason
	}
	return c.reason
}

// gone tells a peer that closed its socket from one that only ended its
// writing: unix(7) has POLLHUP for the former alone. To leave our other side
// open after a full close would keep a client writing to nobody.
func gone(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	hup := true
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		for {
			if _, perr := unix.Poll(p, 0); !errors.Is(perr, unix.EINTR) {
				break
			}
		}
		hup = p[0].Revents&unix.POLLHUP != 0
	})
	return err != nil || hup
}
