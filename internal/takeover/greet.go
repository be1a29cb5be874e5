package takeover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// greetWithin is how long a server may take to greet. One that accepts and says
// nothing is no HTTP/2 server; one on a busy machine still is.
const greetWithin = 2 * time.Second

// greeting is what a client of HTTP/2 says first (RFC 9113 §3.4): the preface
// and a SETTINGS frame, empty. It is said without knowing what is at the other
// end: a server of something else sees a line that it doesn't know.
const greeting = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// errNotHTTP2 is wrapped by greet's error where the server answered something else.
var errNotHTTP2 = errors.New("it does not speak HTTP/2, so that it is no gRPC server")

// greet asks the server of f whether it speaks HTTP/2, and for its pid: 0 where
// that is in another pid namespace.
func (f *file) greet(within time.Duration) (pid int, err error) {
	c, err := f.dial()
	if err != nil {
		return 0, fmt.Errorf("its server does not answer: %w", cause(err))
	}
	defer c.Close()
	peer, _ := proxy.Peer(c)
	_ = c.SetDeadline(time.Now().Add(within))
	if _, err := io.WriteString(c, greeting); err != nil {
		return int(peer), fmt.Errorf("%w (%w)", errNotHTTP2, cause(err))
	}
	// The server's preface is a SETTINGS frame of its own.
	head := make([]byte, 9)
	if _, err := io.ReadFull(c, head); err != nil {
		return int(peer), fmt.Errorf("%w (%w)", errNotHTTP2, cause(err))
	}
	const settings = 4
	if head[3] != settings || head[4]&1 != 0 || binary.BigEndian.Uint32(head[5:]) != 0 {
		return int(peer), errNotHTTP2
	}
	return int(peer), nil
}

// refuse says why a path must not be taken, from what it is alone.
func (p *Place) refuse(at *file) error {
	switch {
	case strings.HasSuffix(p.base, ".ttrpc"):
		return fmt.Errorf("%s speaks ttrpc, not gRPC, and its server checks its peers: it can't be tapped", p.path)
	case strings.HasPrefix(p.base, ".") && strings.Contains(p.base, mark):
		return fmt.Errorf("%s is grpc-tap's own; name the path that it belongs to", p.path)
	case at == nil:
		return fmt.Errorf("%s: there is nothing; start its server first, or name another path (grpc-tap discover lists them)", p.path)
	case at.mode&unix.S_IFMT != unix.S_IFSOCK:
		return fmt.Errorf("%s is no socket; name a socket's path (grpc-tap discover lists them)", p.path)
	}
	return nil
}
