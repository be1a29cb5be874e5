package mirror

import (
	"syscall"
	"testing"
)

// asleep is a socket whose writer gets no processor: only help reaches it.
type asleep uintptr

func (a asleep) Control(f func(uintptr)) error { f(uintptr(a)); return nil }
func (asleep) Read(func(uintptr) bool) error   { panic("a mirror is not read by its writer") }
func (asleep) Write(func(uintptr) bool) error  { panic("the writer is asleep") }

// A tap that reads and a writer that gets no processor: who fills the queue
// empties it too, and no connection goes blind for want of a processor.
func TestWhoFillsTheQueueEmptiesItToo(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fds[0]); _ = syscall.Close(fds[1]) }()
	w := NewWriter(4 * controlRoom)
	w.raw = asleep(fds[0])
	c := w.Open(1, Peers{})
	const chunks, size = 200, 32 << 10
	got, buf := 0, make([]byte, 1<<20)
	for range chunks {
		c.Chunk(FromServer, make([]byte, size))
		for {
			n, err := syscall.Read(fds[1], buf)
			if err != nil || n <= 0 {
				break
			}
			got += n
		}
	}
	if c.blind || got < chunks*size-crowded {
		t.Errorf("blind %v, %d of %d bytes came", c.blind, got, chunks*size)
	}
}

// A tap that does not read is not waited for by who helps.
func TestHelpDoesNotWaitForTheTap(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fds[0]); _ = syscall.Close(fds[1]) }()
	w := NewWriter(4 * controlRoom)
	w.raw = asleep(fds[0])
	c := w.Open(1, Peers{})
	for range 100 {
		c.Chunk(FromServer, make([]byte, 32<<10))
	}
	if !c.blind {
		t.Error("three MiB fit a socket that nobody reads")
	}
}
