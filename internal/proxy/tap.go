package proxy

import (
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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

// mirrorBuffer is what the kernel may hold between the relay and its tap, in
// bytes; it doubles it for its own use, which makes it about a message of the
// kubelet's limit, 16 MiB: one passes whole though the tap gets no processor
// meanwhile. With the default of 208 KiB the two processes take turns, each turn
// waits for a processor, and such a list overflows the queue every time. It is
// taken only while the tap lags. More than net.core.wmem_max is root's to ask for.
const mirrorBuffer = 8 << 20

func widen(conn *net.UnixConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, mirrorBuffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, mirrorBuffer)
		}
	})
}

// newTap mirrors to conn, over a queue of so many bytes.
func newTap(conn *net.UnixConn, queue int) *Tap {
	widen(conn)
	t := &Tap{Mirror: mirror.NewWriter(queue), conn: conn, done: make(chan struct{})}
	t.close = sync.OnceFunc(t.end)
	t.mirroring.Go(t.write)
	return t
}

func (t *Tap) write() {
	// An error means that the tap is gone; who hears it sees that too.
	_ = t.Mirror.WriteTo(t.conn, t.done)
}

// dismiss has the tap's hearing end, as if it had left.
func (t *Tap) dismiss() { _ = t.conn.CloseRead() }

// end says what is left to say, and lets the tap go.
func (t *Tap) end() {
	t.flush()
	_ = t.conn.Close()
}

// flush ends the mirror. What is queued is for a tap that reads; one that hangs
// is not waited for.
func (t *Tap) flush() {
	_ = t.conn.SetWriteDeadline(time.Now().Add(lastWords))
	close(t.done)
	t.mirroring.Wait()
}
