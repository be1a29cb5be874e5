package mirror

import (
	"io"
	"sync"
)

// Ahead reads from a stream ahead of its reader, into at most limit bytes, so
// that a decoder that is busy for a moment does not fill the relay's queue and
// blind a connection. One 16 MiB message, the kubelet's limit, fits twice.
type Ahead struct {
	mu     sync.Mutex
	ready  sync.Cond // something was read, or room was made, or it is closed
	blocks [][]byte
	off    int // read so far of blocks[0]
	held   int
	limit  int
	err    error
	closed bool
	done   chan struct{}
}

// DefaultAhead is the bound of Ahead, in bytes.
const DefaultAhead = 32 << 20

const aheadBlock = 64 << 10

// NewAhead starts reading from in, to its end or error, which the reader gets
// after all that was read before it. Close in to end it.
func NewAhead(in io.Reader, limit int) *Ahead {
	a := &Ahead{limit: max(limit, aheadBlock), done: make(chan struct{})}
	a.ready.L = &a.mu
	go a.readAhead(in)
	return a
}

func (a *Ahead) readAhead(in io.Reader) {
	defer close(a.done)
	buf := make([]byte, aheadBlock)
	for {
		n, err := in.Read(buf)
		if !a.add(buf[:n], err) {
			return
		}
	}
}

// add copies p to the held bytes, waiting for room; false: there is no more to do.
func (a *Ahead) add(p []byte, err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.held+len(p) > a.limit && !a.closed {
		a.ready.Wait()
	}
	if last := len(a.blocks) - 1; last >= 0 && cap(a.blocks[last])-len(a.blocks[last]) >= len(p) {
		a.blocks[last] = append(a.blocks[last], p...)
	} else if len(p) > 0 {
		a.blocks = append(a.blocks, append(make([]byte, 0, max(len(p), aheadBlock/8)), p...))
	}
	a.held += len(p)
	a.err = err
	a.ready.Broadcast()
	return err == nil && !a.closed
}

// Read implements io.Reader for the one reader.
func (a *Ahead) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.blocks) == 0 && a.err == nil && !a.closed {
		a.ready.Wait()
	}
	if len(a.blocks) == 0 || a.closed {
		if a.closed {
			return 0, io.ErrClosedPipe
		}
		return 0, a.err
	}
	n := copy(p, a.blocks[0][a.off:])
	a.off += n
	a.held -= n
	if a.off == len(a.blocks[0]) {
		a.blocks[0] = nil
		a.blocks, a.off = a.blocks[1:], 0
		if len(a.blocks) == 0 {
			a.blocks = nil
		}
	}
	a.ready.Broadcast()
	return n, nil
}

// Close forgets what is held and waits for the reading goroutine, which ends
// when the stream that it reads from is closed.
func (a *Ahead) Close() {
	a.mu.Lock()
	a.closed = true
	a.ready.Broadcast()
	a.mu.Unlock()
	<-a.done
}
