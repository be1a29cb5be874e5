package discover

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// namedListener is a listening socket of /proc/net/unix, and the file that lies
// now at the path to which it was bound.
type namedListener struct {
	ino   uint32
	inode [2]uint64
}

// procListeners reads /proc/net/unix of every network namespace, for listeners
// whose file has one of the names. It can be read where netlink is refused, and
// other namespaces' without rights in them, but it has paths only, as bound: in
// the mount namespace and directory of that time.
func procListeners(names map[string]bool) (all []namedListener) {
	read := func(path string) {
		b, _ := os.ReadFile(path)
		for line := range strings.Lines(string(b)) {
			ino, path, ok := parseListener(line)
			if !ok || !names[filepath.Base(path)] { // what need not be looked at might hang
				continue
			}
			var st unix.Stat_t
			if unix.Stat(path, &st) == nil {
				all = append(all, namedListener{ino, [2]uint64{st.Dev, st.Ino}})
			}
		}
	}
	read("/proc/thread-self/net/unix")
	for ns := range namespaces() {
		read(fmt.Sprintf("/proc/%d/net/unix", ns.pid))
		ns.done()
	}
	return all
}

// acceptsConnections is __SO_ACCEPTCON, the flag of a listener.
const acceptsConnections = 1 << 16

// parseListener reads Num, RefCount, Protocol, Flags, Type, St, Inode, Path. A
// path that is relative or abstract leads nowhere from here.
func parseListener(line string) (ino uint32, path string, ok bool) {
	fields := strings.Fields(line)
	_, path, ok = strings.Cut(line, " /")
	if !ok || len(fields) < 8 {
		return 0, "", false
	}
	flags, err := strconv.ParseUint(fields[3], 16, 32)
	if err != nil || flags&acceptsConnections == 0 {
		return 0, "", false
	}
	n, err := strconv.ParseUint(fields[6], 10, 32)
	return uint32(n), "/" + strings.TrimSuffix(path, "\n"), err == nil
}
