package takeover

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pair is a connection whose both ends are ours, and what is to be known of one.
func pair(t *testing.T) (theirs int, c Older, fd int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fds[0], &st); err != nil {
		t.Fatal(err)
	}
	cookie, err := unix.GetsockoptUint64(fds[0], unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFD(fds[1]) })
	return fds[1], Older{Server: os.Getpid(), Inode: uint32(st.Ino), Cookie: cookie}, fds[0]
}

// What we have a duplicate of is that connection's end, whatever its number has
// become meanwhile.
func TestTheEndIsTheRightOne(t *testing.T) {
	_, c, fd := pair(t)
	wrong := c
	wrong.Cookie++
	e, err := openEnd(wrong)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.duplicate(); !errors.Is(err, ErrGone) {
		t.Errorf("with another's cookie: %v", err)
	}
	e.close()
	if e, err = openEnd(c); err != nil {
		t.Fatal(err)
	}
	defer e.close()
	again, err := e.duplicate()
	if err != nil {
		t.Fatal(err)
	}
	closeFD(again)
	_, _, other := pair(t)
	if err := unix.Dup3(other, fd, unix.O_CLOEXEC); err != nil { // the number is another socket's
		t.Fatal(err)
	}
	closeFD(other)
	if _, err := e.duplicate(); !errors.Is(err, ErrGone) {
		t.Errorf("when its number is another's: %v", err)
	}
	closeFD(fd)
	if _, err := e.look(); !errors.Is(err, ErrGone) {
		t.Errorf("when its number is nobody's: %v", err)
	}
	if _, err := openEnd(c); !errors.Is(err, ErrGone) {
		t.Errorf("when it is closed: %v", err)
	}
}

// Both queues count, and the frame is written once, whole.
func TestQueuesAndTheFrame(t *testing.T) {
	theirs, _, fd := pair(t)
	defer closeFD(fd)
	buf := make([]byte, 100)
	for from, to := range map[int]int{fd: theirs, theirs: fd} {
		if queued(fd) {
			t.Error("something is queued at first")
		}
		if _, err := unix.Write(from, []byte("x")); err != nil || !queued(fd) {
			t.Errorf("a byte is not seen: %v", err)
		}
		if _, err := unix.Read(to, buf); err != nil {
			t.Fatal(err)
		}
	}
	if err := sayGoAway(fd); err != nil {
		t.Fatal(err)
	}
	// RFC 9113, 6.8: 8 bytes, GOAWAY, stream 0; 2^31-1; NO_ERROR.
	const want = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00"
	if n, err := unix.Read(theirs, buf); err != nil || string(buf[:n]) != want {
		t.Errorf("%x, %v", buf[:max(n, 0)], err)
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if err := sayGoAway(fd); !errors.Is(err, ErrGone) {
		t.Errorf("after the server's end: %v", err)
	}
}

// A server that runs, or that somebody has stopped in the midst of something, is
// not asleep.
func TestAsleep(t *testing.T) {
	start := func(argv ...string) *exec.Cmd {
		cmd := exec.Command(argv[0], argv[1:]...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		return cmd
	}
	asleep := func(c *exec.Cmd) bool {
		t.Helper()
		ok, err := (&end{Older: Older{Server: c.Process.Pid}}).asleep()
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	sleeps, runs := start("sleep", "1000"), start("sh", "-c", "echo; while :; do :; done")
	for !asleep(sleeps) {
	}
	for asleep(runs) { // it waits for its program to be read from a disk
	}
	before, err := processorTime(runs.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for now := before; now == before; now, _ = processorTime(runs.Process.Pid) {
	}
	for range 100 {
		if asleep(runs) {
			t.Fatal("asleep, and it never sleeps")
		}
	}
	if err := sleeps.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for asleep(sleeps) {
	}
	_ = sleeps.Process.Kill()
	_ = sleeps.Wait()
	if _, err := (&end{Older: Older{Server: sleeps.Process.Pid}}).asleep(); !errors.Is(err, ErrGone) {
		t.Errorf("of a process that has ended: %v", err)
	}
	if _, err := processorTime(sleeps.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("the time of a process that has ended: %v", err)
	}
}

func TestLedger(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state", "sent-off")
	open := func() *ledger {
		t.Helper()
		l, err := openLedger(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.close)
		return l
	}
	l, meanwhile := open(), open()
	if err := errors.Join(l.add(7, 1, "/run/a\nb.sock"), l.add(1<<63, 1, "/run/c.sock"), meanwhile.add(8, 2, "/run/d.sock")); err != nil {
		t.Fatal(err)
	}
	if !l.has(7) || l.has(9) {
		t.Error("it does not know what it was told")
	}
	l = open()
	if !l.has(7) || !l.has(8) || !l.has(1<<63) || l.has(9) || len(l.sent) != 3 {
		t.Errorf("read anew: %v", l.sent)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("1 x\n", maxLedger)), 0o600); err != nil {
		t.Fatal(err)
	}
	if l = open(); len(l.sent) != 0 {
		t.Error("one that is too large is not begun anew")
	}
	if _, err := openLedger(filepath.Join(path, "no", "directory")); err == nil || !strings.HasPrefix(err.Error(), "write down who is sent off: ") {
		t.Errorf("where there can be none: %v", err)
	}
}
