package discover

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// eachNamespace hands the sockets of every network namespace to visit, ours
// first, until visit returns false. A Unix socket is listed in one namespace
// only: a listener in that of who made it, an accepted connection in that of
// the client who dialled. A namespace is found by the processes in it.
//
// The error is of our own namespace, after which no other is asked, or tells
// how many others could not be.
func (c Config) eachNamespace(visit func([]sock) bool) error {
	diag := c.diag
	if diag == nil {
		diag = unixDiag
	}
	socks, err := diag(nil)
	if err != nil {
		return err
	}
	if !visit(socks) {
		return nil
	}
	var refused int
	for ns := range namespaces() {
		socks, err := ns.sockets(diag)
		switch {
		case gone(err):
			continue
		case err != nil:
			refused++
		case !visit(socks):
			return nil
		}
		ns.done()
	}
	if refused > 0 {
		return fmt.Errorf("%d other network namespaces could not be looked into; run as root", refused)
	}
	return nil
}

// namespace is a network namespace, by a process in it.
type namespace struct {
	pid  int
	done func() // do not hand this namespace out again
}

// namespaces are those of all processes but ours. One is handed out again, by
// another process, until it is done: the first may have ended meanwhile.
func namespaces() iter.Seq[namespace] {
	return func(yield func(namespace) bool) {
		own, err := os.Readlink("/proc/thread-self/ns/net")
		seen := map[string]bool{own: err == nil}
		for _, pid := range pids() {
			name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
			if err != nil || seen[name] {
				continue
			}
			if !yield(namespace{pid, func() { seen[name] = true }}) {
				return
			}
		}
	}
}

func (n namespace) sockets(diag diagnose) ([]sock, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return diag(f)
}

// gone says whether a process has ended since it was listed.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}
