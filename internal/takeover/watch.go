package takeover

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// watch reports, on C, that something happened to a name in a directory. It is
// a hint to look, and never more: the kernel drops events when its queue is
// full, and what they say is past.
type watch struct {
	C    chan struct{}
	file *os.File
	done chan struct{}
}

// watchName watches from now until close.
func (p *Place) watchName() (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("%s: watch its directory: %w; raise fs.inotify.max_user_instances", p.path, err)
	}
	const what = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	if _, err := unix.InotifyAddWatch(fd, p.at("."), what); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%s: watch its directory: %w; raise fs.inotify.max_user_watches", p.path, err)
	}
	w := &watch{C: make(chan struct{}, 1), file: os.NewFile(uintptr(fd), "inotify"), done: make(chan struct{})}
	go w.read(p.base)
	return w, nil
}

func (w *watch) read(base string) {
	defer close(w.done)
	buf := make([]byte, 16<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return // closed
		}
		if concerns(buf[:n], base) {
			select {
			case w.C <- struct{}{}:
			default:
			}
		}
	}
}

// concerns says whether one of the events (inotify(7)) is of base, or of the
// directory itself.
func concerns(events []byte, base string) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(events[4:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:]))
		if size > len(events) {
			return true
		}
		name := string(bytes.TrimRight(events[unix.SizeofInotifyEvent:size], "\x00"))
		if name == base || name == "" || mask&unix.IN_Q_OVERFLOW != 0 {
			return true
		}
		events = events[size:]
	}
	return false
}

func (w *watch) close() {
	_ = w.file.Close()
	<-w.done
}

// process waits for another process's end.
type process struct {
	pid   int
	fd    int // file's; its Fd method would make it block
	file  *os.File
	ended chan struct{} // closed at its end, or at close
}

// watchProcess works for any process that is visible in our pid namespace.
func watchProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	return watchPidfd(pid, fd), nil
}

// watchPidfd owns fd, whose description does not block.
func watchPidfd(pid, fd int) *process {
	w := &process{pid: pid, fd: fd, file: os.NewFile(uintptr(fd), "pidfd"), ended: make(chan struct{})}
	go w.wait()
	return w
}

func (w *process) wait() {
	defer close(w.ended)
	raw, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	// A pidfd is readable once its process is a zombie.
	_ = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return err == nil && n > 0
	})
}

func (w *process) kill() error { return unix.PidfdSendSignal(w.fd, unix.SIGKILL, nil, 0) }

// end is closed at its end; nil for a nil process.
func (w *process) end() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.ended
}

func (w *process) close() {
	if w != nil {
		_ = w.file.Close()
		<-w.ended
	}
}
