package takeover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What relay and guard say to each other, over SOCK_SEQPACKET sockets, and two
// relays in turn over a stream: a message is one byte of kind, text, and
// descriptors (SCM_RIGHTS).
type message struct {
	kind kind
	text string
	fds  []int // the receiver's to close
}

type kind byte

const (
	// To the guard.
	sayWatch    kind = 'w' // text: a charge; descriptors: directory, lock, progress, relay's pidfd
	sayTaken    kind = 't' // text: the neighbour's name; descriptors: the listener, our socket, the server's socket
	sayReleased kind = 'r' // the path is not ours (any more)
	sayAlive    kind = 'a' // answers sayHung: the relay goes on, and will end by itself
	sayHanded   kind = 'd' // another relay has all that this one had, and a guard of its own
	// To the relay.
	sayOK   kind = 'k' // answers sayWatch and sayTaken
	sayNo   kind = 'n' // answers sayWatch: it can't guard; text: why
	sayHung kind = 'h' // the relay did not answer, and the path was given back
	// To a relay that takes another's place, which answers sayOK.
	sayOffer kind = 'o' // text: an offer; descriptors: the lock, and if the path is held what sayTaken has
)

// maxMessage bounds a message's text, in bytes, and maxFiles its descriptors.
const (
	maxMessage = 8 << 10
	maxFiles   = 8
)

const sayWithin = time.Second

// control is one end of the pair.
type control struct{ conn *net.UnixConn }

// controlPair makes both ends; theirs is for a child.
func controlPair() (ours *control, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "control")
	ours, err = newControl(os.NewFile(uintptr(fds[0]), "control"))
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// newControl takes f over.
func newControl(f *os.File) (*control, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("the control socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, errors.New("the control socket is no Unix socket")
	}
	return &control{u}, nil
}

func (c *control) close() { _ = c.conn.Close() }

// say sends descriptors as numbers: os.File.Fd would make a listener's shared
// description block.
func (c *control) say(k kind, text string, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(sayWithin)) // the other end may stand still, and its queue be full
	_, _, err := c.conn.WriteMsgUnix(append([]byte{byte(k)}, text...), rights, nil)
	return err
}

// hear waits for one message; io.EOF when the other end is gone.
func (c *control) hear() (message, error) {
	buf, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, rn, _, _, err := c.conn.ReadMsgUnix(buf, rights)
	if err != nil {
		return message{}, err
	}
	if n == 0 {
		return message{}, io.EOF
	}
	m := message{kind: kind(buf[0]), text: string(buf[1:n])}
	headers, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil {
		return m, fmt.Errorf("the control socket: %w", err)
	}
	for _, h := range headers {
		fds, err := unix.ParseUnixRights(&h)
		if err != nil {
			return m, fmt.Errorf("the control socket: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
		m.fds = append(m.fds, fds...)
	}
	return m, nil
}

func (m *message) close() {
	for _, fd := range m.fds {
		_ = unix.Close(fd)
	}
	m.fds = nil
}

// charge is whom a guard is to guard. A path holds no zero byte.
type charge struct {
	path          string
	server, relay int // pids; a server's is 0 where it is in another pid namespace
	stateDir      string
	keepClients   bool
}

func (c *charge) text() string {
	return fmt.Sprintf("%s\x00%d\x00%d\x00%s\x00%t", c.path, c.server, c.relay, c.stateDir, c.keepClients)
}

func parseCharge(text string) (c charge, err error) {
	f := strings.Split(text, "\x00")
	if len(f) < 5 { // a later version's has more
		return c, fmt.Errorf("the control socket: a message of %d fields", len(f))
	}
	c.path, c.stateDir, c.keepClients = f[0], f[3], f[4] == "true"
	c.server, err = strconv.Atoi(f[1])
	if err == nil {
		c.relay, err = strconv.Atoi(f[2])
	}
	return c, err
}
