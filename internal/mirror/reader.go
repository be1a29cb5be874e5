package mirror

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Reader is the tap's end.
type Reader struct {
	in  *bufio.Reader
	buf []byte
}

// NewReader reads the stream's Hello from in. A relay of another version of
// the format is an error that names both versions.
func NewReader(in io.Reader) (*Reader, Hello, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 64<<10)}
	e, err := r.Next()
	switch {
	case err != nil:
		return nil, Hello{}, fmt.Errorf("read the relay's hello: %w", err)
	case e.Kind != KindHello:
		return nil, Hello{}, fmt.Errorf("%w: it begins with an event of kind %d", ErrFormat, e.Kind)
	case e.Hello.Version != Version:
		return nil, e.Hello, fmt.Errorf("the relay (pid %d) speaks mirror version %d, this grpc-tap %d: end that relay, or use the grpc-tap that started it",
			e.Hello.PID, e.Hello.Version, Version)
	}
	return r, e.Hello, nil
}

// Next returns the next event; its Data is valid until the next call. The
// error is io.EOF at the stream's end, io.ErrUnexpectedEOF where it ended
// within an event, or wraps ErrFormat.
func (r *Reader) Next() (Event, error) {
	var head [lengthSize]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return Event{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxEvent {
		return Event{}, fmt.Errorf("%w: event of %d bytes", ErrFormat, n)
	}
	if err := r.fill(int(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Event{}, err
	}
	return parseEvent(r.buf)
}

// fill reads n bytes into buf, growing it by what really comes and not by what
// the length claims.
func (r *Reader) fill(n int) error {
	r.buf = r.buf[:0]
	for len(r.buf) < n {
		step := min(n-len(r.buf), 64<<10)
		r.buf = slices.Grow(r.buf, step)
		end := len(r.buf) + step
		if _, err := io.ReadFull(r.in, r.buf[len(r.buf):end]); err != nil {
			return err
		}
		r.buf = r.buf[:end]
	}
	return nil
}

// Ready tells the relay that the tap reads, so that it may serve its path. It
// is all that a tap ever says; closing its side for writing after that asks
// the relay to detach, which its death says too.
func Ready(relay io.Writer) error {
	_, err := relay.Write([]byte{Version})
	return err
}

// AwaitReady waits for the tap's Ready.
func AwaitReady(tap io.Reader) error {
	var b [1]byte
	if _, err := io.ReadFull(tap, b[:]); err != nil {
		return fmt.Errorf("wait for the tap: %w", err)
	}
	if b[0] != Version {
		return fmt.Errorf("%w: the tap answers with version %d, this relay has %d", ErrFormat, b[0], Version)
	}
	return nil
}
