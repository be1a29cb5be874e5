package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/ask"
	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
	"github.com/grpc-tap/grpc-tap/internal/tap"
)

const (
	// lookAgain is how often an agent looks for sockets that came.
	lookAgain = 2 * time.Second
	// startAgain is how long a relay that was started may take to stand, or one that
	// can't, until the next try.
	startAgain = 15 * time.Second
	// askAgain is how long a socket that is not to be tapped is left alone: another
	// server may come to its path.
	askAgain = time.Minute
)

// agentNode is all that an agent watches: for each socket a relay that stands, and a visit
// to it. What should be is compared with what is, again and again; nothing of it is
// remembered but what was tried last.
type agentNode struct {
	*agent
	stdout, stderr io.Writer

	out    *output
	asker  *ask.Asker
	exe    string // on the node, of our version
	socket map[string]*watched
	said   map[string]bool
	asked  map[string]time.Time // sockets that are not to be tapped, and when they said who they are
	visits sync.WaitGroup
	// rescued are paths that were found dead, and when a relay was started to give them back.
	rescued map[string]time.Time
}

// watched is one socket.
type watched struct {
	discover.Socket
	visit   *visit
	started time.Time             // a relay, last
	refused atomic.Pointer[error] // why none could be, last; nil: one was
	moving  atomic.Bool           // its older clients are asked to dial anew
}

func newAgentNode(a *agent, stdout, stderr io.Writer) *agentNode {
	return &agentNode{agent: a, stdout: stdout, stderr: stderr, socket: map[string]*watched{}}
}

// run keeps up with the node until ctx is done. It leaves the relays standing.
func (n *agentNode) run(ctx context.Context) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := n.machine.Reachable(); err != nil {
		return err
	}
	if err := os.MkdirAll(n.state, 0o755); err != nil {
		return fmt.Errorf("%w; give --state-dir", err)
	}
	if n.out, err = n.show.open(ctx, stop, n.stdout, n.stderr, nil); err != nil {
		return err
	}
	n.out.metrics.serve(ctx)
	var asked func()
	n.asker, asked = n.out.asks(ctx, n.node.Kubelets())

	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for ctx.Err() == nil {
		n.look(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	n.visits.Wait()
	asked()
	err = n.out.close(true)
	var all []life
	for _, w := range n.socket {
		if w.visit != nil {
			all = append(all, w.visit)
		}
	}
	sayGoodbye(n.stderr, all, n.out)
	return err
}

// look makes it so that a relay stands on each socket that is to be tapped, and that
// we visit it.
func (n *agentNode) look(ctx context.Context) {
	if err := errors.Join(takeover.Disabled(n.state), takeover.Tripped(n.state)); err != nil {
		n.sayOnce("nothing is tapped: %v", err)
		return
	}
	found, err := n.node.Found(ctx)
	if err != nil && ctx.Err() == nil {
		n.sayOnce("some places can't be looked at: %v", err)
	}
	for _, s := range n.wanted(found) {
		w := n.socket[s.Path]
		if w == nil {
			if w = n.meet(ctx, s); w == nil {
				continue
			}
			n.socket[s.Path] = w
		}
		n.keep(ctx, w)
	}
}

// wanted are the sockets among those found that may be to be tapped, and the runtime's
// where it was named.
func (n *agentNode) wanted(found []discover.Socket) []discover.Socket {
	found = slices.DeleteFunc(found, func(s discover.Socket) bool {
		return s.Kind != discover.CSI && (s.Kind != discover.CRI || n.runtime != auto)
	})
	if n.runtime != auto && n.runtime != none {
		found = append(found, discover.Socket{Path: n.runtime, Kind: discover.CRI})
	}
	return found
}

// meet decides whether a socket that is new is to be tapped; nil: it is not, or can't
// be told yet.
func (n *agentNode) meet(ctx context.Context, s discover.Socket) *watched {
	if time.Since(n.asked[s.Path]) < askAgain {
		return nil
	}
	asked, err := n.node.Inspect(ctx, s.Path)
	switch {
	case err != nil:
		n.sayOnce("%s can't be asked who it is: %v", s.Path, err)
		return nil
	case asked.Dead:
		n.rescue(ctx, s)
		return nil // not yet
	case asked.Kind != s.Kind:
		put(&n.asked, s.Path, time.Now())
		n.sayOnce("%q is not tapped: it does not speak %s", s.Path, strings.ToUpper(string(s.Kind)))
		return nil
	case asked.Name == "" && !stands(s.Path):
		// Who does not say who it is may be one that is denied, or no gRPC server at all: a
		// relay would greet that every second.
		put(&n.asked, s.Path, time.Now())
		n.sayOnce("%q is not tapped: it does not say who it is; it is asked again in %v", s.Path, askAgain)
		return nil
	case s.Kind == discover.CSI && !n.wants(asked.Name, filepath.Base(filepath.Dir(s.Path))):
		put(&n.asked, s.Path, time.Now())
		n.sayOnce("%q (%.63q) is not tapped: by allow and deny", s.Path, asked.Name) // CSI's bound of a name
		return nil
	}
	if unseen := (&attach{live: n.live}).unseen(asked); unseen != "" {
		n.sayOnce("%s: %s", s.Path, unseen)
	}
	return &watched{Socket: asked}
}

// rescue has a path given back whose relay and guard were killed at once: a relay that
// is started does that first. Whether it may stay is asked once the server answers.
func (n *agentNode) rescue(ctx context.Context, s discover.Socket) {
	st, err := takeover.Read(s.Path)
	if err != nil || !st.Taken || st.By != 0 || time.Since(n.rescued[s.Path]) < startAgain {
		return
	}
	put(&n.rescued, s.Path, time.Now())
	n.sayOnce("%q: its relay was killed, and nobody gave it back: that is done now", s.Path)
	if err := n.start(ctx, &watched{Socket: s}); err != nil && ctx.Err() == nil {
		n.sayOnce("%q: %v; say `grpc-tap restore %[1]s`", s.Path, err)
	}
}

// stands: a relay stands there, of an agent that came before.
func stands(path string) bool {
	st, err := takeover.Read(path)
	return err == nil && st.Door != ""
}

// keep has a relay of our version stand on a socket, and visits it.
func (n *agentNode) keep(ctx context.Context, w *watched) {
	st, err := takeover.Read(w.Path)
	if err != nil {
		return // it is gone, or its directory: what comes is looked at anew
	}
	if (st.Door == "" || !n.isOurs(st.By)) && time.Since(w.started) > startAgain {
		w.started = time.Now()
		w.refused.Store(nil)
		if err := n.start(ctx, w); err != nil && ctx.Err() == nil {
			w.refused.Store(&err)
		}
	}
	if w.visit == nil {
		w.visit = n.visit(ctx, w)
	}
}

// isOurs: a process runs the executable that we would start.
func (n *agentNode) isOurs(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && (exe == n.exe || n.exe == "" && n.install() == nil && exe == n.exe)
}

func (n *agentNode) install() (err error) {
	n.exe, err = n.machine.Install()
	return err
}

// start starts a relay on the node. Where one of another version stands, it takes its
// place.
func (n *agentNode) start(ctx context.Context, w *watched) error {
	if err := n.install(); err != nil { // again: the last relay to end removes it
		return err
	}
	if err := n.machine.Tidy(n.exe); err != nil {
		n.out.log.Debug("an executable of an earlier version is left on the node", "cause", err)
	}
	if err := forgetReason(n.reason(w.Path)); err != nil {
		return err
	}
	argv := []string{n.exe, "relay", "--take", w.Path, "--mirror", n.door(w.Path), "--state-dir", n.state,
		"--orphan-timeout", n.orphan.String(), "--drain", n.drain.String(), "--of-agent", n.reason(w.Path),
		fmt.Sprintf("--keep-clients=%t", w.Kind == discover.CSI), fmt.Sprintf("--unguarded=%t", n.bare)}
	return n.machine.Start(ctx, filepath.Base(n.exe)+"-"+unitName(w.Path), "grpc-tap's relay on "+w.Path, argv)
}

// absent is why no relay stands on a socket, as far as that can be told.
func (n *agentNode) absent(w *watched) string {
	if err := w.refused.Load(); err != nil {
		return (*err).Error()
	}
	return strings.TrimPrefix(readReason(n.reason(w.Path)), w.Path+": ")
}

// visit is our stay with the relays that stand on a socket, until ctx is done.
func (n *agentNode) visit(ctx context.Context, w *watched) *visit {
	at := endpoint{path: w.Path, stands: true, wait: true}
	v := &visit{
		endpoint: at, condition: newCondition(at),
		cfg:    n.show.payload.tell(tap.Config{Out: n.out.records, Log: n.out.log}),
		stderr: n.stderr,
		absent: func() string { return n.absent(w) },
	}
	v.served = func(h mirror.Hello) {
		n.asker.Served(h.Listen, h.Upstream)
		if n.live && w.Kind == discover.CRI && !w.moving.Swap(true) {
			n.visits.Go(func() { n.move(ctx, w) })
		}
	}
	n.out.metrics.add(v)
	n.visits.Go(func() {
		err := v.run(ctx)
		v.ended(err)
		if err != nil {
			fmt.Fprintf(n.stderr, "grpc-tap: %s: %v\n", w.Path, err)
		}
	})
	return v
}

// move asks the clients that are connected past the relay to dial anew, again and again
// until none is left: on a busy node there may be no moment for it for long.
func (n *agentNode) move(ctx context.Context, w *watched) {
	defer w.moving.Store(false)
	a := &attach{stderr: n.stderr}
	a.take.StateDir = n.state
	var said []string // the last time
	for ctx.Err() == nil {
		lines := a.move(ctx, w.Path)
		for _, line := range lines {
			if !slices.Contains(said, line) {
				fmt.Fprintf(n.stderr, "grpc-tap: %s: %s\n", w.Path, line)
			}
		}
		said = lines
		if older, err := olderThanUs(w.Path); err == nil && len(older) == 0 {
			return
		}
		within(n.again, ctx.Done())
	}
}

// sayOnce says what would be said every two seconds.
func (n *agentNode) sayOnce(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !n.said[text] {
		put(&n.said, text, true)
		fmt.Fprintln(n.stderr, "grpc-tap: "+text)
	}
}

// maxRemembered bounds the lines, and the sockets, that are remembered.
const maxRemembered = 1000

// put remembers, and begins anew where that is too much.
func put[V any](m *map[string]V, key string, value V) {
	if *m == nil || len(*m) >= maxRemembered {
		*m = map[string]V{}
	}
	(*m)[key] = value
}
