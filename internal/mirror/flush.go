package mirror

import (
	"errors"
	"io"
	"syscall"
)

// The queue's way out. Bytes leave it under w.leaving and by writes that do not
// block, so that whoever holds it never waits for the tap: only for a processor.
// That lets a relayed connection that fills the queue empty it too. The queue is
// a millisecond or two of a large message, and the goroutine that writes may
// wait longer for its processor: it has rivals in the very client and server.

// drain writes until the queue is empty and nothing is owed. It waits for the
// tap where it must.
func (w *Writer) drain(out io.Writer) error {
	if w.raw == nil {
		w.leaving.Lock()
		defer w.leaving.Unlock()
		return w.flush(out.Write, forever)
	}
	var err error
	waited := w.raw.Write(func(fd uintptr) bool {
		w.leaving.Lock()
		defer w.leaving.Unlock()
		err = w.flush(writeNow(fd), forever)
		return !errors.Is(err, syscall.EAGAIN)
	})
	if waited != nil {
		return waited
	}
	return err
}

// help writes what the tap takes at once: a little, since the bytes of other
// connections are no reason to hold up this one, and nothing where another
// helps already.
func (w *Writer) help() {
	if !w.leaving.TryLock() {
		return
	}
	defer w.leaving.Unlock()
	// What fails here fails in drain as well.
	_ = w.raw.Control(func(fd uintptr) { _ = w.flush(writeNow(fd), helping) })
}

// How many writes a flush may make.
const (
	helping = 2
	forever = 1 << 62
)

// writeNow writes to a socket that does not block.
func writeNow(fd uintptr) func([]byte) (int, error) {
	return func(p []byte) (int, error) {
		for {
			n, err := syscall.Write(int(fd), p)
			if !errors.Is(err, syscall.EINTR) {
				return max(n, 0), err
			}
		}
	}
}

// flush writes until the queue is empty and nothing is owed, a write fails, or
// there were so many. Called with leaving held.
func (w *Writer) flush(write func([]byte) (int, error), writes int) error {
	for ; writes > 0; writes-- {
		w.mu.Lock()
		w.settle()
		p := w.q.peek()
		w.mu.Unlock()
		if len(p) == 0 {
			return nil
		}
		n, err := write(p[:min(len(p), writeAtMost)])
		w.mu.Lock()
		w.q.discard(n)
		w.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}
