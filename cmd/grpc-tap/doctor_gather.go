package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

// node is the sockets of this machine.
type node struct {
	sockets []socketFacts
	err     error    // places that could not be read
	places  []string // where sockets are looked for
	missing error    // the --kubelet-dir that was given is not there
}

// socketFacts are those of one socket; those that are for a takeover, only
// where one is thinkable.
type socketFacts struct {
	discover.Socket
	traces     takeover.Traces
	tracesErr  error
	site       takeover.Site
	siteErr    error
	clients    []discover.Process
	clientsErr error
	guard      error // why no guard would outlive what ends us
	guardTried bool
}

func (d *doctor) gatherNode(ctx context.Context) (n node) {
	if dir := d.node.KubeletDir; dir != "" {
		_, n.missing = os.Stat(filepath.Join(d.node.Root, dir))
	}
	n.places = d.node.Places()
	sockets, err := d.node.Sockets(ctx)
	n.err = err
	n.sockets = make([]socketFacts, len(sockets))
	var gathering sync.WaitGroup
	places := make(chan struct{}, 4)
	for i, s := range sockets {
		places <- struct{}{}
		gathering.Go(func() {
			n.sockets[i] = d.gatherSocket(ctx, s)
			<-places
		})
	}
	gathering.Wait()
	return n
}

func (d *doctor) gatherSocket(ctx context.Context, s discover.Socket) socketFacts {
	f := socketFacts{Socket: s}
	f.traces, f.tracesErr = takeover.Trace(s.Path)
	if !f.tappable() {
		return f
	}
	if f.tapped() {
		// Who serves it is a relay; who would be of interest is behind that.
		if behind, err := d.node.Inspect(ctx, f.traces.Server); err == nil {
			f.Servers = behind.Servers
		}
	}
	f.clients, f.clientsErr = clients(s.Path)
	f.site, f.siteErr = takeover.Survey(s.Path)
	if f.siteErr != nil || f.tapped() {
		return f
	}
	f.guardTried = true
	try := d.tryGuard
	if try == nil {
		try = takeover.TryGuard
	}
	said := make(chan error, 1)
	go func() { said <- try(s.Path, f.site.Server) }()
	select {
	case f.guard = <-said:
	case <-time.After(guardWithin):
		f.guard = errGuardSilent
	}
	return f
}

// clients are those of others. A connection that is just closed, as ours have
// been, is for a moment one whose process can't be told.
func clients(path string) (all []discover.Process, err error) {
	for range 3 {
		if all, err = discover.Clients(path); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return slices.DeleteFunc(all, func(p discover.Process) bool { return p.PID == os.Getpid() }), err
}
