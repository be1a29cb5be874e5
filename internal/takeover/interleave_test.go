package takeover

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// server is a runtime as its socket sees it, one system call at a time.
type server struct {
	path string
	fd   int
	ino  uint64
	mode os.FileMode
}

func (s *server) listen() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: s.path}); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("bind %s: %w", s.path, err)
	}
	var st unix.Stat_t
	if err := errors.Join(unix.Lstat(s.path, &st), unix.Listen(fd, 16)); err != nil {
		_ = unix.Close(fd)
		return err
	}
	s.fd, s.ino = fd, st.Ino
	return nil
}

func (s *server) close() error { return unix.Close(s.fd) }

func (s *server) unlink() error {
	if err := os.Remove(s.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *server) chmod() error { return os.Chmod(s.path, s.mode) }

// restart is the server's system calls: containerd unlinks, binds, and sets the
// mode; a graceful stop unlinks too (net.UnixListener.Close).
func (s *server) restart(graceful bool) []func() error {
	steps := []func() error{s.close}
	if graceful {
		steps = append(steps, s.unlink)
	}
	return append(steps, nil, nil, s.unlink, s.listen, s.chmod)
}

// The law of giving back: whatever the server does between our system calls,
// in the end the path leads to its newest socket, with its mode, and nothing of
// ours is left. Bind is never refused by something that we put there.
func TestTheLiveSocketWins(t *testing.T) {
	rounds := 10_000
	if testing.Short() {
		rounds = 500
	}
	for seed := range uint64(rounds) {
		if err := interleave(t, rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func interleave(t *testing.T, r *rand.Rand) (err error) {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &server{path: filepath.Join(dir, "s.sock"), mode: 0o660}
	if err := errors.Join(s.listen(), s.chmod()); err != nil {
		return err
	}
	defer func() { _ = s.close() }()
	p, err := Open(s.path)
	if err != nil {
		return err
	}
	defer p.Close()

	// What the server does, and how much of it is done.
	var todo []func() error
	restarts := r.IntN(3)
	for range restarts {
		todo = append(todo, s.restart(r.IntN(2) == 0)...)
	}
	var trouble error
	var log []string
	advance := func(steps int) {
		for ; steps > 0 && len(todo) > 0; steps-- {
			if todo[0] != nil {
				trouble = errors.Join(trouble, todo[0]())
			}
			todo = todo[1:]
		}
	}

	held, err := p.takeFake(s)
	if err != nil {
		return err
	}
	defer held.close()
	dead := r.IntN(2) == 0
	if dead {
		_ = held.lis.Close() // the relay and its guard are dead
	}
	p.wait = func(time.Duration) { advance(r.IntN(8)) }
	p.step = func(call string) {
		n := max(0, r.IntN(16)-7)
		log = append(log, fmt.Sprintf("%d of the server, %s", n, call))
		advance(n)
	}
	for range 1 + r.IntN(2) { // a guard's, then a user's
		if _, err := p.Undo(false); err != nil {
			return fmt.Errorf("undo: %w\n%v", err, log)
		}
	}
	p.step = nil
	advance(len(todo))
	if trouble != nil {
		return fmt.Errorf("the server: %w\n%v", trouble, log)
	}
	_ = held.lis.Close()
	if _, err := p.Undo(false); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return s.check(p, restarts, log)
}

// takeFake is take, without asking the server anything.
func (p *Place) takeFake(s *server) (_ *taken, err error) {
	t := &taken{place: p}
	if t.server, err = p.look(p.base); err != nil {
		return nil, err
	}
	if err := t.bind(); err != nil {
		return nil, err
	}
	return t, t.exchange(func(*taken) error { return nil })
}

func (s *server) check(p *Place, restarts int, log []string) error {
	var st unix.Stat_t
	if err := unix.Lstat(s.path, &st); err != nil {
		return fmt.Errorf("the path: %w\n%v", err, log)
	}
	if st.Ino != s.ino {
		return fmt.Errorf("the path leads to inode %d, the server's is %d\n%v", st.Ino, s.ino, log)
	}
	// Two restarts between two of our system calls are asked to end with the
	// right socket only: which of three its mode was given to can't be told.
	if restarts < 2 && os.FileMode(st.Mode&0o777) != s.mode {
		return fmt.Errorf("the path has mode %o, the server gave it %o\n%v", st.Mode&0o777, s.mode, log)
	}
	f, err := p.look(p.base)
	if lives, aerr := f.alive(); err != nil || !lives {
		err = errors.Join(err, aerr)
		return fmt.Errorf("the path does not answer (%w)\n%v", err, log)
	}
	f.close()
	left, err := os.ReadDir(filepath.Dir(s.path))
	if err != nil || len(left) != 1 {
		return fmt.Errorf("left in the directory: %v (%w)\n%v", left, err, log)
	}
	return nil
}
