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
	// of them: it can't be told who, or they have hung up meanwhile.
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
	hidden := 0
	for _, s := range socks {
		if s.listens || s.peer == 0 {
			continue
		}
		if len(held[s.ino]) == 0 || len(held[s.peer]) == 0 {
			hidden++
		}
		all = append(all, Connection{
			Inode: s.ino, Cookie: s.cookie,
			Servers: processes(held[s.ino]), Clients: processes(held[s.peer]),
		})
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
