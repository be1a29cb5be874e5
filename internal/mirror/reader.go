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
	in    *bufio.Reader
	buf   []byte // the event
	taken int    // of in's buffer, by the event
	long  []byte // for events that do not fit it
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
	_, _ = r.in.Discard(r.taken) // they are buffered
	r.taken = 0
	head, err := r.in.Peek(lengthSize)
	if err != nil {
		if errors.Is(err, io.EOF) && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return Event{}, err
	}
	n := int(binary.BigEndian.Uint32(head))
	if n > MaxEvent {
		return Event{}, fmt.Errorf("%w: event of %d bytes", ErrFormat, n)
	}
	if err := r.fill(n); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Event{}, err
	}
	return parseEvent(r.buf)
}

// fill has buf be the n bytes behind a length: within what is read already,
// where they fit that, else in long, which is grown by what really comes and
// not by what the length claims.
func (r *Reader) fill(n int) error {
	if lengthSize+n <= r.in.Size() {
		b, err := r.in.Peek(lengthSize + n)
		if err == nil {
			r.buf, r.taken = b[lengthSize:], len(b)
		}
		return err
	}
	_, _ = r.in.Discard(lengthSize)
	b := r.long[:0]
	for len(b) < n {
		step := min(n-len(b), 64<<10)
		end := len(b) + step
		b = slices.Grow(b, step)[:end]
		if _, err := io.ReadFull(r.in, b[end-step:]); err != nil {
			return err
		}
	}
	r.buf, r.long = b, b
	return nil
}
