package main

import (
	"bytes"
	"io"
	"time"
)

// console is stderr for a process that must not wait for it: a terminal held by
// Ctrl-S, or a pager that nobody scrolls, would stop the decoding and with it
// the end of the session. Lines wait in a queue, and what does not fit is
// dropped.
type console struct {
	lines   chan []byte
	closing chan struct{}
	done    chan struct{}
}

// consoleLines is the queue's length. Lines are few: it is full only when
// nobody reads.
const consoleLines = 256

// lastLines is how long the last lines may take to be read.
const lastLines = time.Second

func newConsole(w io.Writer) *console {
	c := &console{lines: make(chan []byte, consoleLines), closing: make(chan struct{}), done: make(chan struct{})}
	go c.print(w)
	return c
}

func (c *console) print(w io.Writer) {
	defer close(c.done)
	for {
		select {
		case line := <-c.lines:
			_, _ = w.Write(line)
			continue
		default:
		}
		select {
		case line := <-c.lines:
			_, _ = w.Write(line)
		case <-c.closing:
			if len(c.lines) == 0 {
				return
			}
		}
	}
}

// Write queues p and never fails, also after close.
func (c *console) Write(p []byte) (int, error) {
	select {
	case c.lines <- bytes.Clone(p):
	default:
	}
	return len(p), nil
}

// close prints what is queued, if somebody reads.
func (c *console) close() {
	close(c.closing)
	select {
	case <-c.done:
	case <-time.After(lastLines):
	}
}
