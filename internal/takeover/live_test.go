package takeover

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// livePath is a path that has been taken from a grpc-go server, which is a process
// of its own and has clients from before.
type livePath struct {
	*Mover
	taken *taken
	pid   int
	older map[*net.UnixConn]Older // by a client's end
}

// serverProcess starts a gRPC server that plays a part, until the test ends.
func serverProcess(t *testing.T, part, path string, attr *syscall.SysProcAttr) (pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), "TAKEOVER_TEST_PART="+part, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr, cmd.SysProcAttr = os.Stderr, attr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, unix.EPERM) && attr != nil {
			t.Skipf("this sandbox lets nobody make namespaces: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s: %s", part, line)
	}
	return cmd.Process.Pid
}

// patiently is for tests in which the moment comes: no busy machine may turn it
// into a refusal.
const patiently = 10 * time.Minute

// takeLive starts a server and takes its path.
func takeLive(t *testing.T, part string) *livePath {
	t.Helper()
	path := filepath.Join(shortDir(t), "s.sock")
	l := &livePath{pid: serverProcess(t, part, path, nil), older: map[*net.UnixConn]Older{}}
	l.takeIt(t, path)
	return l
}

func (l *livePath) takeIt(t *testing.T, path string) {
	t.Helper()
	p := place(t, path)
	held, err := p.lock("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(held.release)
	if l.taken, err = p.take(t.Context(), nothing); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.taken.close)
	if l.Mover, err = NewMover(path, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Mover.Close)
	l.within = patiently
}

// dial connects past us, and finds the server's end: the socket that the server
// has, and had not before.
func (l *livePath) dial(t *testing.T) *net.UnixConn {
	t.Helper()
	before := socketsOf(t, l.pid)
	c, err := l.taken.server.dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	// grpc-go greets whom it has accepted.
	if _, err := c.Read(make([]byte, 15)); err != nil {
		t.Fatal(err)
	}
	for ino, cookie := range socketsOf(t, l.pid) {
		if _, old := before[ino]; !old {
			l.older[c] = Older{Server: l.pid, Inode: ino, Cookie: cookie, Clients: []string{"/usr/bin/kubelet"}, Seen: time.Now().Add(-oldEnough)}
		}
	}
	if l.older[c].Inode == 0 {
		t.Fatal("the server's end is not found")
	}
	return c
}

// socketsOf are a process's connected Unix sockets and their cookies, by inode.
func socketsOf(t *testing.T, pid int) map[uint32]uint64 {
	t.Helper()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(pidfd)
	all := map[uint32]uint64{}
	for n := range 100 {
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if errors.Is(err, unix.EPERM) {
			t.Skip("this machine cannot run it: pidfd_getfd is not permitted (CAP_SYS_PTRACE)")
		}
		if err != nil {
			continue
		}
		var st unix.Stat_t
		_, perr := unix.Getpeername(fd)
		cookie, cerr := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		if unix.Fstat(fd, &st) == nil && perr == nil && cerr == nil {
			all[uint32(st.Ino)] = cookie
		}
		closeFD(fd)
	}
	return all
}

// A client of grpc-go's is sent off, and dials the path, which is ours.
func TestSendOffMoves(t *testing.T) {
	l := takeLive(t, "serve")
	c := l.dial(t)
	if err := c.SetDeadline(time.Now().Add(patiently)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(greeting)); err != nil {
		t.Fatal(err)
	}
	older := l.older[c]
	if err := c.Close(); err != nil { // its number is another's from here on
		t.Fatal(err)
	}
	if err := l.SendOff(t.Context(), older); !errors.Is(err, ErrGone) {
		t.Errorf("a connection that has ended: %v", err)
	}

	older, conn := l.dialGRPC(t)
	if err := l.SendOff(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	if again, err := l.taken.lis.Accept(); err != nil {
		t.Error(err)
	} else {
		_ = again.Close()
	}
	_ = conn.Close()
	if err := l.SendOff(t.Context(), older); err == nil || !strings.Contains(err.Error(), "by an earlier session") {
		t.Errorf("a second time: %v", err)
	}
}

// dialGRPC is dial with grpc-go for a client, whose later dials go to the path.
func (l *livePath) dialGRPC(t *testing.T) (Older, *grpc.ClientConn) {
	t.Helper()
	c := l.dial(t)
	older := l.older[c]
	first := make(chan net.Conn, 1)
	// What has been read of it is 15 bytes of the server's SETTINGS frame.
	first <- &unread{c, []byte("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00")}
	conn, err := grpc.NewClient("passthrough:///s", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-first:
				return c, nil
			default:
				return proxy.Dial(l.place.path)
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		conn.WaitForStateChange(t.Context(), state)
	}
	go func() { // as a client does that has something to say
		if conn.WaitForStateChange(context.WithoutCancel(t.Context()), connectivity.Ready) {
			conn.Connect()
		}
	}()
	return older, conn
}

// unread gives back what was read too early.
type unread struct {
	net.Conn
	first []byte
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.first) > 0 {
		n := copy(p, u.first)
		u.first = u.first[n:]
		return n, nil
	}
	return u.Conn.Read(p)
}

// Where there is no moment, nothing is written, and it is said why.
func TestSendOffDeclines(t *testing.T) {
	refused := func(name string, l *livePath, c Older, says string) {
		t.Helper()
		err := l.SendOff(t.Context(), c)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l := takeLive(t, "serve")
	l.within = time.Second
	c := l.dial(t)
	older := l.older[c]
	for name, clients := range map[string][]string{
		"a sidecar": {"/csi-provisioner"}, "nobody known": nil, "one who can't be told": {""}, "a sidecar too": {"/usr/bin/kubelet", "/livenessprobe"},
	} {
		o := older
		o.Clients = clients
		refused(name, l, o, "may exit")
	}
	// A second SETTINGS of ours is answered; nobody reads that.
	if _, err := c.Write([]byte(greeting + "\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	awaitQueued(t, older)
	refused("a client that does not read", l, older, errQueued.Error())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.SendOff(ctx, older); !errors.Is(err, context.Canceled) {
		t.Errorf("when the session has ended: %v", err)
	}
	l.taken.lis.Close()
	if _, err := l.place.Undo(false); err != nil {
		t.Fatal(err)
	}
	l.servers[l.pid], l.ready = nil, func(*quiet, sample) error { return nil }
	refused("a path that is given back", l, older, "not grpc-tap's any more")

	busy := takeLive(t, "busy")
	busy.within = time.Second
	busy.ready = func(*quiet, sample) error { return nil }
	refused("a server that runs", busy, busy.older[busy.dial(t)], errAtWork.Error())
}

// awaitQueued waits until something lies in one of the queues.
func awaitQueued(t *testing.T, c Older) {
	t.Helper()
	e, err := openEnd(c)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	for {
		s, err := e.look()
		if err != nil {
			t.Fatal(err)
		}
		if s.queued {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
