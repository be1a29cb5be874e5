package discover

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Connection is one that a server has accepted, by both its ends.
type Connection struct {
	Inode  uint32 // of the server's end
	Cookie uint64 // of the server's end: SO_COOKIE
	// Servers and Clients are who holds the ends, by pid: mostly one each. None
	// of them: it can't be told who.
	Servers, Clients []Process
}

// Connections are those of the servers whose listening sockets are bound to the
// files that lie at paths now, the oldest number first, but for those from the
// processes except. What it takes and what its error says is as with [Clients].
//
// Who holds an end is found by a look at every process, which costs more than all else
// here. It is one for all paths, and none where nobody is connected but those.
func Connections(except []int, paths ...string) ([]Connection, error) {
	return Config{}.connections(except, paths...)
}

func (c Config) connections(except []int, paths ...string) ([]Connection, error) {
	socks, err := c.boundAt(paths...)
	theirs := map[uint32]bool{}
	for _, pid := range except {
		held, _ := heldSockets(pid) // what can't be seen is looked for everywhere
		for _, ino := range held {
			theirs[ino] = true
		}
	}
	socks = slices.DeleteFunc(socks, func(s sock) bool { return s.listens || s.peer == 0 || theirs[s.peer] })
	ends := map[uint32]bool{}
	for _, s := range socks {
		ends[s.ino], ends[s.peer] = true, true
	}
	held, complete := holders(ends)
	var all []Connection
	for _, s := range socks {
		all = append(all, Connection{
			Inode: s.ino, Cookie: s.cookie,
			Servers: processes(held[s.ino]), Clients: processes(held[s.peer]),
		})
	}
	if slices.ContainsFunc(all, Connection.hidden) {
		all = c.stillOpen(all, paths...)
	}
	hidden := 0
	for _, conn := range all {
		if conn.hidden() {
			hidden++
		}
	}
	slices.SortFunc(all, func(a, b Connection) int { return cmp.Compare(a.Inode, b.Inode) })
	if hidden > 0 && !complete {
		err = errors.Join(err, fmt.Errorf("the processes of %d of its connections could not be looked into; run as root", hidden))
	}
	if err != nil {
		err = fmt.Errorf("the connections of %s: %w", strings.Join(paths, ", "), err)
	}
	return all, err
}

// hidden: it can't be told who holds one of its ends.
func (conn Connection) hidden() bool { return len(conn.Servers) == 0 || len(conn.Clients) == 0 }

// stillOpen leaves out of those that are hidden the ones that were hung up while the
// processes were looked into.
func (c Config) stillOpen(all []Connection, paths ...string) []Connection {
	socks, err := c.boundAt(paths...)
	if err != nil {
		return all
	}
	return slices.DeleteFunc(all, func(conn Connection) bool {
		return conn.hidden() && !slices.ContainsFunc(socks, func(s sock) bool { return s.cookie == conn.Cookie && s.peer != 0 })
	})
}
