package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

// moveClients has the clients of each path dial anew that were connected before
// it was taken. It returns with the session: all that can go wrong is said, and
// none of it ends the session. A CSI driver's clients are left alone: the kubelet
// dials for each call, and the others may exit.
func (a *attach) moveClients(paths []discover.Socket) func(context.Context) error {
	return func(ctx context.Context) error {
		var moving sync.WaitGroup
		for _, s := range paths {
			if s.Kind != discover.CSI {
				moving.Go(func() {
					for _, line := range move(ctx, s.Path, a.take.StateDir) {
						fmt.Fprintf(a.stderr, "grpc-tap: %s: %s\n", s.Path, line)
					}
				})
			}
		}
		moving.Wait()
		<-ctx.Done()
		return nil
	}
}

// atOnce is how many connections of one path are waited for at a time.
const atOnce = 4

// move moves one path's clients, and says in lines what became of them.
func move(ctx context.Context, path, stateDir string) (lines []string) {
	older, err := atRest(ctx, func() ([]discover.Connection, error) { return olderThanUs(path) })
	if len(older) > 0 {
		lines = moveAll(ctx, path, stateDir, older)
	}
	switch {
	case err != nil:
		lines = append(lines, fmt.Sprintf("not all clients can be asked to dial anew: %v", err))
	case len(lines) == 0 && ctx.Err() == nil:
		lines = append(lines, "no connection past grpc-tap is left to be moved")
	}
	return lines
}

const (
	restTries = 10
	restEvery = 100 * time.Millisecond
)

// atRest looks again for as long as several processes hold a server's end: one that a
// runtime starts, as it does for each container, has all that it has until it is another
// program.
func atRest(ctx context.Context, look func() ([]discover.Connection, error)) (older []discover.Connection, err error) {
	for range restTries {
		older, err = look()
		if ctx.Err() != nil || !slices.ContainsFunc(older, func(c discover.Connection) bool { return len(c.Servers) > 1 }) {
			break
		}
		within(restEvery, ctx.Done())
	}
	return older, err
}

func moveAll(ctx context.Context, path, stateDir string, older []discover.Connection) []string {
	mover, err := takeover.NewMover(path, stateDir)
	if err != nil {
		return []string{fmt.Sprintf("no client is asked to dial anew: %v", err)}
	}
	defer mover.Close()
	seen := time.Now()
	errs := make([]error, len(older))
	places := make(chan struct{}, atOnce)
	var moving sync.WaitGroup
	for i, c := range older {
		moving.Go(func() {
			places <- struct{}{}
			errs[i] = sendOff(ctx, mover, c, seen)
			<-places
		})
	}
	moving.Wait()
	return outcomes(older, errs)
}

// olderThanUs are the connections past our relays, to the servers' own sockets
// beside the paths. Those of our own processes are not: the relays', their guards'.
// Beside an error: those that were seen.
func olderThanUs(paths ...string) ([]discover.Connection, error) {
	var servers []string
	var errs []error
	var relays []int
	for _, path := range paths {
		st, err := takeover.Read(path)
		if err == nil && !st.Taken {
			continue
		}
		if err == nil {
			err = isSocketItself(st.Server)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		servers = append(servers, st.Server)
		relays = append(relays, st.By)
	}
	if len(servers) == 0 {
		return nil, errors.Join(errs...)
	}
	all, err := discover.Connections(relays, servers...)
	ours := func(p discover.Process) bool { return slices.Contains(relays, p.PID) || isRelay(p) }
	return slices.DeleteFunc(all, func(c discover.Connection) bool {
		return slices.ContainsFunc(c.Clients, ours)
	}), errors.Join(append(errs, err)...)
}

func isSocketItself(path string) error {
	file, err := os.Lstat(path)
	if err == nil && file.Mode()&os.ModeSymlink != 0 { // --fail-open
		err = errors.New("it was a link to the server's own path, and who came by it can't be told from who dials that; restart the client")
	}
	return err
}

// isRelay: a process is a relay or a guard, of whichever grpc-tap: an agent's run from
// other files than the agent itself, and those that others took the place of from older
// ones.
func isRelay(p discover.Process) bool {
	if self, _ := os.Executable(); p.Exe == self {
		return true
	}
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
	argv := strings.Split(string(cmdline), "\x00")
	return strings.HasPrefix(filepath.Base(p.Exe), "grpc-tap") && len(argv) > 1 && (argv[1] == "relay" || argv[1] == "guard")
}

func sendOff(ctx context.Context, m *takeover.Mover, c discover.Connection, seen time.Time) error {
	switch len(c.Servers) {
	case 0:
		return errors.New("its server's process can't be seen; run grpc-tap as root with CAP_SYS_PTRACE, in the host's pid namespace (hostPID: true; docker --pid host), or restart the client")
	case 1:
	default:
		return errors.New("several processes hold its server's end, and any of them may be writing; restart the client")
	}
	older := takeover.Older{Server: c.Servers[0].PID, Inode: c.Inode, Cookie: c.Cookie, Seen: seen}
	for _, p := range c.Clients {
		older.Clients = append(older.Clients, p.Exe)
	}
	return m.SendOff(ctx, older)
}

// outcomes are lines: one for all that were moved, and one for each reason why
// others were not. Those that have ended by themselves need none.
func outcomes(all []discover.Connection, errs []error) (lines []string) {
	who := map[string][]string{}
	var reasons []string
	for i, c := range all {
		if errors.Is(errs[i], takeover.ErrGone) || errors.Is(errs[i], context.Canceled) || errors.Is(errs[i], context.DeadlineExceeded) {
			continue
		}
		reason := ""
		if errs[i] != nil {
			reason = errs[i].Error()
		}
		if who[reason] == nil {
			reasons = append(reasons, reason)
		}
		who[reason] = append(who[reason], clientsOf(c))
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		n, names := plural(uint64(len(who[reason])), "connection"), counted(who[reason])
		if reason == "" {
			lines = append(lines, fmt.Sprintf("%s moved, and seen from the next call on: %s", n, names))
		} else {
			lines = append(lines, fmt.Sprintf("%s not moved, and not seen: %s: %s", n, names, reason))
		}
	}
	return lines
}

func clientsOf(c discover.Connection) string {
	var names []string
	for _, p := range c.Clients {
		names = append(names, called(p))
	}
	if len(names) == 0 {
		return "somebody unknown"
	}
	return strings.Join(names, " with ")
}

// counted names each once, with how often it is there.
func counted(names []string) string {
	slices.Sort(names)
	var out []string
	for len(names) > 0 {
		n := 1
		for n < len(names) && names[n] == names[0] {
			n++
		}
		name := names[0]
		if n > 1 {
			name = fmt.Sprintf("%s ×%d", name, n)
		}
		out, names = append(out, name), names[n:]
	}
	return strings.Join(out, ", ")
}
