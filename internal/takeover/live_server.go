package takeover

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// inOurNamespace says why a process is another pid namespace's.
func inOurNamespace(pid int) error {
	ours, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return fmt.Errorf("its server's pid namespace can't be told: %w; restart the client", err)
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	switch {
	case err != nil:
		return fmt.Errorf("its server (pid %d) can't be looked into: %w; %s", pid, cause(err), needs)
	case ours != theirs:
		return fmt.Errorf("its server (pid %d) is in a container, another pid namespace than grpc-tap's; restart the client", pid)
	}
	return nil
}

// greetsFirst says why the listener's connections may be something else than
// grpc-go's own. That says SETTINGS to whoever connects, MAX_FRAME_SIZE the first
// of them, before it has read a byte; what has to look at the first bytes, for TLS
// or because it serves HTTP/1.1 too, says nothing.
func (m *Mover) greetsFirst(ctx context.Context) error {
	st, err := Read(m.place.path)
	if err != nil || !st.Taken {
		return errors.New("its path is not grpc-tap's")
	}
	p, err := Open(st.Server)
	if err != nil {
		return err
	}
	defer p.Close()
	f, err := p.look(p.base)
	if err != nil || f == nil {
		return errors.New("its server has gone")
	}
	defer f.close()
	c, err := f.dial()
	if err != nil {
		return fmt.Errorf("its server does not answer: %w", cause(err))
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(greetWithin))
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })()
	var b [15]byte // a frame's header, and the first setting
	_, err = io.ReadFull(c, b[:])
	if err != nil || !bytes.Equal(b[3:11], []byte{4, 0, 0, 0, 0, 0, 0, 5}) || binary.BigEndian.Uint32(b[11:]) != 16384 {
		return errors.New("its server does not greet as grpc-go does by itself: it speaks TLS, or HTTP/1.1 on the same socket, as CRI-O; restart the client")
	}
	return nil
}

// loopy is a name in the function table of every program that links grpc-go's
// transport, which a linker can't strip.
const loopy = "google.golang.org/grpc/internal/transport.(*loopyWriter)"

// isGRPCGo says why a program can't be a grpc-go server. Its build information
// would not do: Debian's containerd has none of its modules.
func isGRPCGo(exe string) error {
	f, err := os.Open(exe)
	if err != nil {
		return fmt.Errorf("its server can't be looked into: %w; %s", cause(err), needs)
	}
	defer f.Close()
	found, err := contains(f, []byte(loopy))
	if err != nil {
		return fmt.Errorf("its server can't be looked into: %w; restart the client", err)
	}
	if !found {
		return errors.New("its server is not built with grpc-go, the only one of which is known when it is between two frames; restart the client")
	}
	return nil
}

// contains reads r until what is found.
func contains(r io.Reader, what []byte) (bool, error) {
	buf := make([]byte, 256<<10)
	kept := 0
	for {
		n, err := r.Read(buf[kept:])
		have := buf[:kept+n]
		if bytes.Contains(have, what) {
			return true, nil
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		kept = copy(buf, have[max(0, len(have)-len(what)+1):])
	}
}
