package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/ask"
	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
	"github.com/grpc-tap/grpc-tap/internal/tap"
)

// lookAgain is how often an agent looks for sockets that came.
const lookAgain = 2 * time.Second

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
	looked bool                 // once
	pulse  pulse
	visits sync.WaitGroup
	past   tap.Stats // of sockets that are gone
	// rescued are paths that were found dead, and when a relay was started to give them back.
	rescued map[string]time.Time
}

func newAgentNode(a *agent, stdout, stderr io.Writer) *agentNode {
	return &agentNode{agent: a, stdout: stdout, stderr: stderr, socket: map[string]*watched{}}
}

// open makes what settings may be wrong for. stop is called when nobody reads stdout
// any more.
func (n *agentNode) open(ctx context.Context, stop func()) (err error) {
	if err := n.machine.Reachable(); err != nil {
		return err
	}
	if err := os.MkdirAll(n.state, 0o755); err != nil {
		return fmt.Errorf("%w; mount the node's /run, and writable, or give --state-dir", err)
	}
	if dir := n.node.KubeletDir; dir != "" {
		if _, err := os.Stat(dir); err != nil {
			fmt.Fprintf(n.stderr, "grpc-tap: no CSI driver can be found: %v; kubeletDir is the kubelet's --root-dir, at its own path\n", err)
		}
	}
	n.out, err = n.show.open(ctx, stop, n.stdout, n.stderr, nil)
	return err
}

// run keeps up with the node until ctx is done. It leaves the relays standing.
func (n *agentNode) run(ctx context.Context) error {
	n.pulse.step(time.Now())
	if n.out.metrics != nil {
		n.out.metrics.pulse = &n.pulse
	}
	n.out.metrics.serve(ctx)
	var asked func()
	n.asker, asked = n.out.asks(ctx, n.node.Kubelets())

	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for ctx.Err() == nil {
		n.look(ctx)
		n.pulse.round(time.Now())
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	n.visits.Wait()
	asked()
	err := n.out.close(true)
	all := []life{&visit{past: n.past}}
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
	if err := n.kept(); err != nil {
		n.sayOnce("nothing is tapped: %v", err)
		found, _ := n.node.Found(ctx)
		for _, s := range n.wanted(found) {
			n.rescue(ctx, s) // by a relay that does nothing else then
		}
		return
	}
	found, err := n.node.Found(ctx)
	if err != nil && ctx.Err() == nil {
		n.sayOnce("some places can't be looked at: %v", err)
	}
	var left []string
	for _, s := range n.wanted(found) {
		n.pulse.step(time.Now())
		w := n.socket[s.Path]
		if w == nil && s.Kind == discover.CSI && n.full() {
			if n.asked[s.Path].IsZero() { // else it is not to be tapped anyway
				left = append(left, s.Path)
			}
			n.rescue(ctx, s)
			continue
		}
		if w == nil {
			if w = n.meet(ctx, s); w == nil {
				continue
			}
			n.socket[s.Path] = w
		}
		n.keep(ctx, w)
	}
	for path, w := range n.socket {
		n.pulse.step(time.Now())
		if n.isGone(ctx, w) {
			delete(n.socket, path) // by which it was found: w.Path has no links in it
			n.drop(w)
		}
	}
	n.looked = true
	n.pulse.lack(n.lacks())
	if len(left) > 0 {
		n.sayOnce("%d drivers' sockets are tapped, and no more: not %q%s; deny (or allow) by name what need not be", n.most, left[:min(len(left), saidLeft)], andMore(len(left)-saidLeft))
	}
}

// lacks says that there is no runtime where one was named, which is no node's usual state.
// Drivers come and go.
func (n *agentNode) lacks() error {
	for _, w := range n.socket {
		if w.Kind == discover.CRI {
			return nil
		}
	}
	switch n.runtime {
	case none:
	case auto:
		n.sayOnce("no runtime is found in any of the well-known places: name its socket (runtime: PATH), or say runtime: none")
	default:
		return fmt.Errorf("%s: no runtime is found there; mend runtime: PATH, and mount its directory", n.runtime)
	}
	return nil
}

// kept is what keeps the node untapped; nil: nothing does.
func (n *agentNode) kept() error {
	return errors.Join(takeover.Disabled(n.state), takeover.Tripped(n.state))
}

// standingFirst: what the agent before us tapped stays tapped.
func standingFirst(found []discover.Socket) []discover.Socket {
	var standing, others []discover.Socket
	for _, s := range found {
		if stands(s.Path) {
			standing = append(standing, s)
		} else {
			others = append(others, s)
		}
	}
	return append(standing, others...)
}

// saidLeft is how many of the sockets are named that are too many.
const saidLeft = 8

func andMore(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

// full: no more drivers' sockets are tapped. The runtime's always are.
func (n *agentNode) full() bool {
	drivers := 0
	for _, w := range n.socket {
		if w.Kind == discover.CSI {
			drivers++
		}
	}
	return drivers >= n.most
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
	if !n.looked {
		found = standingFirst(found)
	}
	return found
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
