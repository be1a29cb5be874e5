package discover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Process is a process at a socket.
type Process struct {
	PID int
	Exe string // path of its executable; "" where that may not be read
	// Creator: who holds the socket could not be told, only that this pid made
	// it; it may have ended since, or be another process by now.
	Creator bool
}

func process(pid int) Process {
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return Process{PID: pid, Exe: strings.TrimSuffix(exe, " (deleted)")}
}

func processes(pids []int) []Process {
	slices.Sort(pids)
	var all []Process
	for _, pid := range slices.Compact(pids) {
		all = append(all, process(pid))
	}
	return all
}

// pids are those of all processes that we can see, in order.
func pids() []int {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	var all []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			all = append(all, pid)
		}
	}
	slices.Sort(all)
	return all
}

// holders finds the processes that hold each of the sockets. complete is false
// where some process may not be looked into.
func holders(socks map[uint32]bool) (by map[uint32][]int, complete bool) {
	by, complete = map[uint32][]int{}, true
	if len(socks) == 0 {
		return by, true
	}
	for _, pid := range pids() {
		held, err := heldSockets(pid)
		if errors.Is(err, fs.ErrPermission) {
			complete = false
		}
		for _, ino := range held {
			if socks[ino] && !slices.Contains(by[ino], pid) {
				by[ino] = append(by[ino], pid)
			}
		}
	}
	return by, complete
}

// heldSockets are the inode numbers of a process' sockets.
func heldSockets(pid int) ([]uint32, error) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fds, err := dir.Readdirnames(-1)
	var held []uint32
	for _, fd := range fds {
		link, err := os.Readlink(dir.Name() + "/" + fd)
		if err != nil {
			if errors.Is(err, fs.ErrPermission) {
				return held, err
			}
			continue // closed meanwhile
		}
		if n, ok := strings.CutPrefix(link, "socket:["); ok {
			if ino, err := strconv.ParseUint(strings.TrimSuffix(n, "]"), 10, 32); err == nil {
				held = append(held, uint32(ino))
			}
		}
	}
	return held, err
}
