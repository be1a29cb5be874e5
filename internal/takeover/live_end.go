package takeover

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// end is the server's end of a connection. Nothing of it is held between two
// looks: while there is a duplicate, the server's close does not reach its client.
type end struct {
	Older
	pidfd int
	fd    int // the server's number for it

	waited time.Duration // as of asked: it costs more than the rest of a look
	asked  time.Time
}

func openEnd(c Older) (*end, error) {
	pidfd, err := unix.PidfdOpen(c.Server, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d, its server: %w; live attach needs Linux 5.6", c.Server, err)
	}
	e := &end{Older: c, pidfd: pidfd}
	if err := e.find(); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *end) close() { closeFD(e.pidfd) }

func closeFD(fd int) { _ = unix.Close(fd) }

// find looks for the descriptor in the server.
func (e *end) find() error {
	dir := fmt.Sprintf("/proc/%d/fd", e.Server)
	fds, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrGone
	}
	if err != nil {
		return fmt.Errorf("look into its server: %w; %s", err, needs)
	}
	want := fmt.Sprintf("socket:[%d]", e.Inode)
	for _, f := range fds {
		if link, _ := os.Readlink(dir + "/" + f.Name()); link == want {
			e.fd, err = strconv.Atoi(f.Name())
			return err
		}
	}
	return ErrGone
}

const needs = "live attach needs CAP_SYS_PTRACE over its server, and a kernel.yama.ptrace_scope below 3; restart the client instead"

// duplicate gets the descriptor, and makes sure that it is this connection's:
// its number may have been given to another file.
func (e *end) duplicate() (fd int, err error) {
	fd, err = unix.PidfdGetfd(e.pidfd, e.fd, 0)
	switch {
	case errors.Is(err, unix.EBADF), errors.Is(err, unix.ESRCH):
		return -1, ErrGone
	case errors.Is(err, unix.EPERM):
		return -1, fmt.Errorf("pidfd_getfd: %w; %s", err, needs)
	case err != nil:
		return -1, fmt.Errorf("pidfd_getfd: %w; live attach needs Linux 5.6, and no seccomp filter that forbids it; restart the client instead", err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK && st.Ino == uint64(e.Inode) {
		if cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); err == nil && cookie == e.Cookie {
			return fd, nil
		}
	}
	closeFD(fd)
	return -1, ErrGone
}

// waitedEvery is how often it is asked how busy the machine is.
const waitedEvery = 20 * time.Millisecond

// look takes a sample.
func (e *end) look() (s sample, err error) {
	fd, err := e.duplicate()
	if err != nil {
		return s, err
	}
	s.queued = queued(fd)
	closeFD(fd)
	if s.ran, err = processorTime(e.Server); err != nil {
		return s, err
	}
	s.at = time.Now()
	if s.at.Sub(e.asked) > waitedEvery {
		e.waited, e.asked = waited(), s.at
	}
	s.waited = e.waited
	return s, nil
}

// queued says whether anything lies in one of the two queues, or can't be told.
func queued(fd int) bool {
	in, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	if err != nil || in != 0 {
		return true
	}
	out, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	return err != nil || out != 0
}

// sayGoAway writes the frame, whole or not at all: the queue is empty.
func sayGoAway(fd int) error {
	frame := proxy.GoAway()
	n, err := unix.SendmsgN(fd, frame, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	switch {
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return ErrGone
	case err != nil:
		return fmt.Errorf("write to its server's end: %w", err)
	case n != len(frame):
		return fmt.Errorf("write to its server's end: %d of %d bytes", n, len(frame))
	}
	return nil
}

// processorTime is how long a process has run: all its threads, to the
// nanosecond, as of when each was last put to sleep or of the last tick.
func processorTime(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED, of a process (linux/posix-timers.h)
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|scheduled, &ts); err != nil {
		return 0, ErrGone
	}
	return time.Duration(ts.Nano()), nil
}

// asleep says whether all threads of the server wait for something that is to
// happen: none runs, is to run, waits for a page or a disk, or is stopped. Those
// that wait for I/O are looked at last: it is they who wake the others.
func (e *end) asleep() (bool, error) {
	dir, err := unix.Open(fmt.Sprintf("/proc/%d/task", e.Server), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, ErrGone
	}
	tasks := os.NewFile(uintptr(dir), "task")
	defer tasks.Close()
	threads, err := tasks.Readdirnames(-1)
	if err != nil {
		return false, ErrGone
	}
	buf := make([]byte, 512)
	var first, last []string
	for _, t := range threads {
		if bytes.Contains(readAt(dir, t+"/wchan", buf), []byte("poll")) {
			last = append(last, t)
		} else {
			first = append(first, t)
		}
	}
	for _, t := range append(first, last...) {
		// pid (name) state …; a name may hold anything.
		_, state, _ := strings.Cut(string(readAt(dir, t+"/stat", buf)), ") ")
		if !strings.HasPrefix(state, "S ") {
			return false, nil
		}
	}
	return true, nil
}

func readAt(dir int, name string, buf []byte) []byte {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer closeFD(fd)
	n, _ := unix.Read(fd, buf)
	return buf[:max(n, 0)]
}
