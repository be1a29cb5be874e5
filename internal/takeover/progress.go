package takeover

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// progress is a number in memory that relay and guard share: bytes relayed. So
// the guard can tell a relay that stands still from one that is busy, without
// a right to look into it.
type progress struct {
	file *os.File
	mem  []byte
}

func newProgress() (*progress, error) {
	fd, err := unix.MemfdCreate("progress", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make shared memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "progress")
	if err := f.Truncate(int64(os.Getpagesize())); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make shared memory: %w", err)
	}
	return mapProgress(f)
}

// mapProgress takes f over.
func mapProgress(f *os.File) (*progress, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	return &progress{file: f, mem: mem}, nil
}

// moved counts bytes. A mapping begins at a page, so that it is aligned.
func (p *progress) moved() *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&p.mem[0])) }

func (p *progress) close() {
	_ = unix.Munmap(p.mem)
	_ = p.file.Close()
}
