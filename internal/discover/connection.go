package discover

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Connection is one that a server has accepted, by both its ends.
type Connection struct {
	Inode  uint32 // of the server's end
	Cookie uint64 // of the server's end: SO_COOKIE
	// Servers and Clients are who holds the ends, by pid: mostly one each. None
	// of them: it can't be told who.
	Servers, Clients []Process
}

// Connections are those of the server whose listening socket is bound to the
// file that lies at path now, the oldest number first. What it takes and what
// its error says is as with [Clients].
func Connections(path string) ([]Connection, error) { return Config{}.connections(path) }

func (c Config) connections(path string) ([]Connection, error) {
	socks, err := c.boundAt(path)
	ends := map[uint32]bool{}
	for _, s := range socks {
		ends[s.ino], ends[s.peer] = true, true
	}
	delete(ends, 0)
	held, complete := holders(ends)
	var all []Connection
	for _, s := range socks {
		if !s.listens && s.peer != 0 {
			all = append(all, Connection{
				Inode: s.ino, Cookie: s.cookie,
				Servers: processes(held[s.ino]), Clients: processes(held[s.peer]),
			})
		}
	}
	if slices.ContainsFunc(all, Connection.hidden) {
		all = c.stillOpen(path, all)
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
		err = fmt.Errorf("the connections of %s: %w", path, err)
	}
	return all, err
}

// hidden: it can't be told who holds one of its ends.
func (conn Connection) hidden() bool { return len(conn.Servers) == 0 || len(conn.Clients) == 0 }

// stillOpen leaves out of those that are hidden the ones that were hung up while the
// processes were looked into.
func (c Config) stillOpen(path string, all []Connection) []Connection {
	socks, err := c.boundAt(path)
	if err != nil {
		return all
	}
	return slices.DeleteFunc(all, func(conn Connection) bool {
		return conn.hidden() && !slices.ContainsFunc(socks, func(s sock) bool { return s.cookie == conn.Cookie && s.peer != 0 })
	})
}
