package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
	"github.com/grpc-tap/grpc-tap/internal/tap"
)

const (
	// startAgain is how long a relay that was started may take to stand, or one that
	// can't, until the next try.
	startAgain = 15 * time.Second
	// askAgain is how long a socket that is not to be tapped is left alone: another
	// server may come to its path.
	askAgain = time.Minute
)

// watched is one socket.
type watched struct {
	discover.Socket
	visit   *visit
	started time.Time             // a relay, last
	refused atomic.Pointer[error] // why none could be, last; nil: one was
	moving  atomic.Bool           // its older clients are asked to dial anew
	served  time.Time             // somebody was there, last
	leave   func()                // ends the visit; nil: there is none yet
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
	if !stands(s.Path) { // else who is connected is connected to the relay, and seen
		if who := unseen(asked, n.live); who != "" {
			n.sayOnce("%q: %s", s.Path, who)
		}
	}
	return &watched{Socket: asked, served: time.Now()}
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

// keep has a relay of our version and settings stand on a socket, and visits it.
func (n *agentNode) keep(ctx context.Context, w *watched) {
	st, err := takeover.Read(w.Path)
	if err != nil {
		return // it is gone, or its directory: what comes is looked at anew
	}
	if w.visit == nil {
		w.visit = n.visit(ctx, w)
	}
	// Of two agents of different versions, the one that came last has relays of its own.
	ours := st.Door != "" && (n.isOurs(st.By, w) || !isAgents(st.By) || w.visit.rival.there())
	if !ours && time.Since(w.started) > startAgain {
		w.started = time.Now()
		w.refused.Store(nil)
		if err := n.start(ctx, w); err != nil && ctx.Err() == nil {
			w.refused.Store(&err)
		}
	}
}

// goneFor is for how long a socket is waited for whose relay waits for good.
const goneFor = 10 * time.Minute

// isGone: nobody has served a socket for as long as its relay would wait for a tap.
func (n *agentNode) isGone(ctx context.Context, w *watched) bool {
	if st, err := takeover.Read(w.Path); err == nil && st.Taken {
		w.served = time.Now()
	}
	if time.Since(w.served) < cmp.Or(n.orphan, goneFor) {
		return false
	}
	asked, err := n.node.Inspect(ctx, w.Path) // no relay may have come to stand on a server that is there
	w.served = time.Now()
	return ctx.Err() == nil && (err != nil || asked.Dead)
}

// drop leaves a socket that is gone to its relay, which nobody reads then, and which
// ends in time.
func (n *agentNode) drop(w *watched) {
	if w.leave != nil {
		w.leave()
		n.past.Add(w.visit.stats())
	}
	fmt.Fprintf(n.stderr, "grpc-tap: %q has been gone for %v, and is not waited for any more\n", w.Path, cmp.Or(n.orphan, goneFor))
}

// isAgents: a process is a relay that an agent started, or can't be looked at. All others
// are to be upgraded and ended by who started them.
func isAgents(pid int) bool {
	argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err != nil || strings.Contains(string(argv), "\x00--of-agent\x00")
}

// isOurs: a process is the relay that we would start.
func (n *agentNode) isOurs(pid int, w *watched) bool {
	if n.exe == "" && n.install() != nil {
		return false
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && exe == n.exe && strings.HasPrefix(string(argv), strings.Join(n.argv(w), "\x00")+"\x00")
}

// argv is what a relay is started with, but for whose place it takes.
func (n *agentNode) argv(w *watched) []string {
	return []string{n.exe, "relay", "--take", w.Path, "--mirror", n.door(w.Path), "--state-dir", n.state,
		"--orphan-timeout", n.orphan.String(), "--drain", n.drain.String(), "--of-agent", n.reason(w.Path),
		fmt.Sprintf("--keep-clients=%t", w.Kind == discover.CSI), fmt.Sprintf("--unguarded=%t", n.bare)}
}

func (n *agentNode) install() (err error) {
	n.exe, err = n.machine.Install()
	return err
}

// start starts a relay on the node. Where one of another version or with other settings
// stands, it takes its place.
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
	st, err := takeover.Read(w.Path)
	if err != nil {
		return err
	}
	argv := append(n.argv(w), "--in-place-of", strconv.Itoa(st.By))
	// Units of relays that others took the place of are there until their last connection
	// has ended, which may be days. One of them may have been told the same as this one, but
	// for whose place it takes.
	unit := filepath.Base(n.exe) + "-" + unitName(w.Path) + "-" + digest(argv...)
	return n.machine.Start(ctx, unit, unitName(w.Path), "grpc-tap's relay on "+shown(w.Path), argv)
}

// absent is why no relay stands on a socket, as far as that can be told.
func (n *agentNode) absent(w *watched) string {
	if err := n.kept(); err != nil {
		return oneLine(err.Error())
	}
	if err := w.refused.Load(); err != nil {
		return shown((*err).Error())
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
	ctx, stop := context.WithCancel(ctx)
	left := make(chan struct{})
	w.leave = func() { stop(); <-left; n.out.metrics.drop(v) }
	n.visits.Go(func() {
		defer close(left)
		err := v.run(ctx)
		v.ended(err)
		if err != nil {
			fmt.Fprintf(n.stderr, "grpc-tap: %q: %s\n", w.Path, shown(err.Error()))
		}
	})
	return v
}

// move asks the clients that are connected past the relay to dial anew, again and again
// until none is left: on a busy node there may be no moment for it for long.
func (n *agentNode) move(ctx context.Context, w *watched) {
	defer w.moving.Store(false)
	var said []string // the last time
	for ctx.Err() == nil {
		lines := move(ctx, w.Path, n.state)
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
