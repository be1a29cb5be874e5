package proxy

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
)

// Tap is a relay's end of the mirror: what is written to Mirror goes to the tap
// at the connection's other end, for as long as that reads.
type Tap struct {
	Mirror *mirror.Writer

	conn      *net.UnixConn
	done      chan struct{}
	mirroring sync.WaitGroup
	close     func()
}

// lastWords is how long a tap has to read what the relay still had to say.
const lastWords = time.Second

// NewTap mirrors to conn, over a queue of so many bytes; 0: mirror.DefaultQueue.
func NewTap(conn *net.UnixConn, queue int) *Tap {
	if queue == 0 {
		queue = mirror.DefaultQueue
	}
	t := &Tap{Mirror: mirror.NewWriter(queue), conn: conn, done: make(chan struct{})}
	t.close = sync.OnceFunc(t.end)
	t.mirroring.Go(t.write)
	return t
}

func (t *Tap) write() {
	// An error means that the tap is gone; AwaitGone sees that too.
	_ = t.Mirror.WriteTo(t.conn, t.done)
}

// AwaitReady waits until the tap reads: io.EOF if it thought better of it.
func (t *Tap) AwaitReady() error { return mirror.AwaitReady(t.conn) }

// AwaitGone waits for the tap to close its side, or for Close. The tap says
// nothing after its Ready, so any end of the read is its detach or its death.
func (t *Tap) AwaitGone() { _, _ = io.Copy(io.Discard, t.conn) }

// Close says what is left to say, and lets the tap go.
func (t *Tap) Close() { t.close() }

func (t *Tap) end() {
	// What is queued is for a tap that reads; one that hangs is not waited for.
	_ = t.conn.SetWriteDeadline(time.Now().Add(lastWords))
	close(t.done)
	t.mirroring.Wait()
	_ = t.conn.Close()
}
