package takeover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lock is the file beside a path that says who has taken it: its pid, and on a
// second line where taps come to it; and the lock itself, which is the relay's and
// its guard's together, and gone with the last of them.
type lock struct {
	place *Place
	file  *os.File
}

func receivedLock(p *Place, fd int) *lock {
	return &lock{place: p, file: os.NewFile(uintptr(fd), p.name(p.lockName()))}
}

func (p *Place) lockName() string { return p.neighbour(".lock") }

// lock takes the lock, or says who has it. door is written into it.
func (p *Place) lock(door string) (*lock, error) {
	for {
		fd, err := unix.Openat(p.fd(), p.lockName(), unix.O_RDONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, fmt.Errorf("%s: create the lock file %s: %w%s", p.path, p.name(p.lockName()), err, mend(err, p))
		}
		l := &lock{place: p, file: os.NewFile(uintptr(fd), p.name(p.lockName()))}
		// Not one that somebody else has put there, to have us write to it.
		var made unix.Stat_t
		if err := unix.Fstat(fd, &made); err != nil || made.Mode&unix.S_IFMT != unix.S_IFREG || made.Nlink > 1 || int(made.Uid) != os.Geteuid() {
			_ = l.file.Close()
			return nil, fmt.Errorf("%s: the lock file %s is no file of ours; remove it", p.path, l.file.Name())
		}
		if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			defer l.file.Close()
			return nil, fmt.Errorf("%s: another grpc-tap is on it (%s); end that first, or `grpc-tap restore %s`", p.path, l.holder(), p.path)
		}
		// It may have been removed by its last holder since it was opened.
		if l.isOurs() {
			if err := l.sign(door); err != nil {
				l.release()
				return nil, fmt.Errorf("%s: write the lock file %s: %w%s", p.path, l.file.Name(), cause(err), mend(err, p))
			}
			return l, nil
		}
		_ = l.file.Close()
	}
}

// signature is who has signed a lock: zero where nobody has yet.
type signature struct {
	pid  int
	door string // where taps come to it, "" where none may
}

func (l *lock) sign(door string) error { return l.write(signature{os.Getpid(), door}) }

// write goes by a descriptor of its own: one that stays open for writing keeps the
// file system from being made read-only. At no time does the file name nobody.
func (l *lock) write(s signature) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", l.file.Fd()), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	n, err := fmt.Fprintf(f, "%d\n%s\n", s.pid, s.door)
	if err == nil {
		err = f.Truncate(int64(n))
	}
	return errors.Join(err, f.Close())
}

func (l *lock) holder() string {
	if s := l.read(); s.pid > 0 {
		return fmt.Sprintf("pid %d", s.pid)
	}
	return "its pid is not known yet"
}

// read takes what it reads twice in a row: the file may be written right now, and
// a file system may show half of that.
func (l *lock) read() (s signature) {
	b := make([]byte, 32+unix.PathMax)
	last := ""
	for range 1000 { // a millisecond
		n, _ := l.file.ReadAt(b, 0)
		first, rest, _ := strings.Cut(string(b[:n]), "\n")
		door, _, whole := strings.Cut(rest, "\n")
		pid, _ := strconv.Atoi(first)
		s = signature{max(pid, 0), door}
		if whole && string(b[:n]) == last {
			break
		}
		last = string(b[:n])
	}
	return s
}

// isOurs says whether the lock file is the one that we hold.
func (l *lock) isOurs() bool {
	var st, now unix.Stat_t
	return unix.Fstat(int(l.file.Fd()), &st) == nil &&
		unix.Fstatat(l.place.fd(), l.place.lockName(), &now, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		st.Dev == now.Dev && st.Ino == now.Ino
}

// release removes the lock file and unlocks: no holder is left.
func (l *lock) release() {
	if l.isOurs() {
		_ = unix.Unlinkat(l.place.fd(), l.place.lockName(), 0)
	}
	_ = l.file.Close()
}

// Holder is the pid of the process that has taken the path; 0: nobody has. door is
// where taps come to it, "" where none may, or another user says so.
func (p *Place) Holder() (pid int, door string) {
	s, held := p.signed()
	if !held {
		return 0, ""
	}
	return max(s.pid, 1), s.door // held, by whomever
}

// signed is who has signed the lock, last, and whether he or his guard holds it.
func (p *Place) signed() (s signature, held bool) {
	fd, err := unix.Openat(p.fd(), p.lockName(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return s, false
	}
	l := &lock{place: p, file: os.NewFile(uintptr(fd), p.lockName())}
	defer l.file.Close()
	held = unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) != nil
	s = l.read()
	var made unix.Stat_t
	if unix.Fstat(fd, &made) != nil || made.Uid != 0 && int(made.Uid) != os.Geteuid() {
		s.door = "" // in a directory that all may write to another user could send us anywhere
	}
	return s, held
}

// removeStaleLock removes the lock file of processes that are gone. Those that
// are about to end, since the path was restored or they were killed, get a moment.
func (p *Place) removeStaleLock() {
	for end := time.Now().Add(directoryWait); ; time.Sleep(directoryWait / 200) {
		if _, err := os.Lstat(p.at(p.lockName())); err != nil {
			return
		}
		if l, err := p.lock(""); err == nil {
			l.release()
			return
		}
		if time.Now().After(end) {
			return // it is somebody's
		}
	}
}

// directoryWait is how long another of our processes may hold the directory. It
// does so for a few system calls.
const directoryWait = time.Second

// exclusive keeps two of our processes from exchanging the same names at once:
// by a lock on the directory itself, which leaves no file. Whoever gives a path
// back goes on without it in the end (patient false): another that stands still
// in there must not keep the node from its socket, and every step checks what
// it moved.
func (p *Place) exclusive(ctx context.Context, patient bool) (unlock func(), err error) {
	d, err := os.Open(p.at("."))
	if err != nil {
		return nil, fmt.Errorf("%s: open its directory: %w%s", p.path, cause(err), advice(err))
	}
	for end := time.Now().Add(directoryWait); ; time.Sleep(directoryWait / 200) {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = d.Close() }, nil
		case time.Now().Before(end) && ctx.Err() == nil:
		case patient:
			_ = d.Close()
			return nil, fmt.Errorf("%s: lock directory %s: %w; another process holds it (lslocks names it)", p.path, filepath.Dir(p.path), err)
		default:
			_ = d.Close()
			return func() {}, nil
		}
	}
}

// mend is what to do about an error of making a file beside the path.
func mend(err error, p *Place) string {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Sprintf("; %s is read-only: make it writable", filepath.Dir(p.path))
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ELOOP):
		return "; that is not grpc-tap's: remove it"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Sprintf("; free some space (df -h -i %s)", filepath.Dir(p.path))
	case errors.Is(err, unix.ENAMETOOLONG):
		return fmt.Sprintf("; the name %q is too long for names beside it", p.base)
	}
	return advice(err)
}
