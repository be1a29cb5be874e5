package discover

import (
	"errors"
	"path/filepath"
	"slices"
)

// findServers fills in who serves each socket.
func (c Config) findServers(found []*candidate) {
	listeners := c.listeners(found)
	byName := unlisted(found, listeners)
	socks := map[uint32]bool{}
	for _, ino := range listeners {
		socks[ino] = true
	}
	for _, inos := range byName {
		for _, ino := range inos {
			socks[ino] = true
		}
	}
	held, _ := holders(socks)
	for _, f := range found {
		if ino, ok := listeners[f]; ok {
			f.Servers = processes(held[ino])
		} else {
			f.Servers = processes(f.plausible(byName[f], held))
		}
		switch {
		case len(f.Servers) > 0 || f.Dead:
		case f.creator != 0:
			p := process(f.creator)
			p.Creator = true
			f.Servers = []Process{p}
		case f.Speaks == "ttrpc":
			// Nothing was dialled that would tell.
			f.note(errors.New("no process is seen that listens; ttrpc sockets are not dialled"))
		}
	}
}

// listeners finds the listening socket of each file that isn't dead, as far as
// the kernel tells.
func (c Config) listeners(found []*candidate) map[*candidate]uint32 {
	wanted := map[boundFile]*candidate{}
	for _, f := range found {
		if !f.Dead {
			wanted[f.file.bound] = f
		}
	}
	listeners := map[*candidate]uint32{}
	if len(wanted) == 0 {
		return listeners
	}
	// What is not found here is looked for by other ways.
	_ = c.eachNamespace(func(socks []sock) (more bool) {
		for _, s := range socks {
			if f := wanted[s.bound]; f != nil && s.listens {
				listeners[f] = s.ino
				delete(wanted, s.bound)
			}
		}
		return len(wanted) > 0
	})
	return listeners
}

// unlisted finds, for sockets that unix_diag did not tell of, the listening
// sockets that were once bound to a path where the file lies now.
func unlisted(found []*candidate, listeners map[*candidate]uint32) map[*candidate][]uint32 {
	wanted, names := map[[2]uint64]*candidate{}, map[string]bool{}
	for _, f := range found {
		if _, ok := listeners[f]; !ok && !f.Dead {
			wanted[f.file.inode] = f
			names[filepath.Base(f.Path)] = true
		}
	}
	byName := map[*candidate][]uint32{}
	if len(wanted) == 0 {
		return byName
	}
	for _, l := range procListeners(names) {
		if f := wanted[l.inode]; f != nil {
			byName[f] = append(byName[f], l.ino)
		}
	}
	return byName
}

// plausible is who holds the listening socket among those that are this one's
// by their name. The name alone deceives: a takeover renames a socket away, and
// its listener goes on under the old name. So its creator has to be among the
// holders, where it is known.
func (f *candidate) plausible(inos []uint32, held map[uint32][]int) []int {
	if f.creator == 0 && len(inos) != 1 {
		return nil
	}
	for _, ino := range inos {
		if f.creator == 0 || slices.Contains(held[ino], f.creator) {
			return held[ino]
		}
	}
	return nil
}
