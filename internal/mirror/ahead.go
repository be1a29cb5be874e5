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
	blocks [][]byte  // the last one is being read into
	off    int       // given out so far of blocks[0]
	spare  [][]byte  // to be used again
	held   int
	limit  int
	err    error
	closed bool
	done   chan struct{}
}

// DefaultAhead is the bound of Ahead, in bytes.
const DefaultAhead = 32 << 20

const (
	aheadBlock = 64 << 10
	// aheadSpare bounds the blocks that are kept to be used again.
	aheadSpare = 8
)

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
	for {
		room := a.room()
		if room == nil {
			return
		}
		n, err := in.Read(room)
		if !a.add(n, err) {
			return
		}
	}
}

// room waits for room and returns it: what is free of the last block. Nobody
// but the goroutine that reads ahead touches that. Nil: there is no more to do.
func (a *Ahead) room() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.held >= a.limit && !a.closed {
		a.ready.Wait()
	}
	if a.closed {
		return nil
	}
	last := len(a.blocks) - 1
	switch {
	case last == 0 && a.off == len(a.blocks[0]):
		a.blocks[0], a.off = a.blocks[0][:0], 0
	case last >= 0 && cap(a.blocks[last])-len(a.blocks[last]) >= aheadBlock/4:
	case len(a.spare) > 0:
		last++
		a.blocks = append(a.blocks, a.spare[len(a.spare)-1])
		a.spare = a.spare[:len(a.spare)-1]
	default:
		last++
		a.blocks = append(a.blocks, make([]byte, 0, aheadBlock))
	}
	b := a.blocks[last]
	return b[len(b):min(cap(b), len(b)+a.limit-a.held)]
}

// add takes n bytes that were read into the room; false: there is no more to do.
func (a *Ahead) add(n int, err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := len(a.blocks) - 1
	a.blocks[last] = a.blocks[last][:len(a.blocks[last])+n]
	a.held += n
	a.err = err
	a.ready.Broadcast()
	return err == nil && !a.closed
}

// Read implements io.Reader for the one reader.
func (a *Ahead) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.held == 0 && a.err == nil && !a.closed {
		a.ready.Wait()
	}
	switch {
	case a.closed:
		return 0, io.ErrClosedPipe
	case a.held == 0:
		return 0, a.err
	}
	if a.off == len(a.blocks[0]) {
		if len(a.spare) < aheadSpare {
			a.spare = append(a.spare, a.blocks[0][:0])
		}
		a.blocks[0] = nil
		a.blocks, a.off = a.blocks[1:], 0
	}
	n := copy(p, a.blocks[0][a.off:])
	a.off += n
	a.held -= n
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
