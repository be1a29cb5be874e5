package takeover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
var errNotHTTP2 = errors.New("it does not speak HTTP/2, so that it is no gRPC server; name another (grpc-tap discover lists them)")

// greet asks the server of f whether it speaks HTTP/2, and for its pid: 0 where
// that is in another pid namespace.
func (f *file) greet(ctx context.Context, within time.Duration) (pid int, err error) {
	c, err := f.dial()
	switch {
	case errors.Is(err, unix.EPROTOTYPE):
		return 0, errors.New("it is no stream socket, so that it is no gRPC server's; name another (grpc-tap discover lists them)")
	case errors.Is(err, unix.EAGAIN):
		return 0, errors.New("its server does not accept: its queue of connections is full; if it hangs, restart it (grpc-tap discover says who it is)")
	case err != nil:
		return 0, fmt.Errorf("its server does not answer: %w; start it first, or name another path (grpc-tap discover lists them)", cause(err))
	}
	defer c.Close()
	peer, _ := proxy.Peer(c)
	_ = c.SetDeadline(time.Now().Add(within))
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })()
	if _, err := io.WriteString(c, greeting); err != nil {
		return int(peer), errNotHTTP2
	}
	// The server's preface is a SETTINGS frame of its own.
	head := make([]byte, 9)
	switch _, err := io.ReadFull(c, head); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return int(peer), fmt.Errorf("its server accepts, and says nothing within %v: it hangs, or does not speak HTTP/2 (grpc-tap discover says who it is)", within)
	case err != nil:
		return int(peer), errNotHTTP2
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
	case p.upstream != "":
		return p.refuseLink(at)
	case strings.HasSuffix(p.base, ".ttrpc"), p.base == "nri.sock", strings.HasSuffix(filepath.Dir(p.path), "/containerd/s"):
		return fmt.Errorf("%s speaks ttrpc, not gRPC, and its server checks its peers: it can't be tapped; name a gRPC socket (grpc-tap discover lists them)", p.path)
	case strings.HasPrefix(p.base, ".") && strings.Contains(p.base, mark):
		return fmt.Errorf("%s is grpc-tap's own; name the path that it belongs to", p.path)
	case at == nil:
		return fmt.Errorf("%s: there is nothing; start its server first, or name another path (grpc-tap discover lists them)", p.path)
	case at.mode&unix.S_IFMT != unix.S_IFSOCK:
		return fmt.Errorf("%s is no socket; name a socket's path (grpc-tap discover lists them)", p.path)
	}
	return nil
}
