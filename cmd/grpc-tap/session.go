package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/ask"
	"github.com/grpc-tap/grpc-tap/internal/metric"
	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
	"github.com/grpc-tap/grpc-tap/internal/tap"
)

// goodbye is how long the end may take: the relays' last events, the records
// still queued, the spans still unsent.
const goodbye = 2 * time.Second

// lastAnswer is how long an answer that is under way is waited for at the end.
const lastAnswer = 100 * time.Millisecond

// endpoint is a path that a relay serves.
type endpoint struct {
	path  string   // where clients dial
	relay []string // the relay's arguments
	// taken: the path is its server's own, and is to be given back. Else there is
	// a path only while grpc-tap serves it.
	taken bool
	// stateDir is where a relay's death is written down, if taken.
	stateDir string
	// unseen says who is connected past us; "": nobody is.
	unseen string
	// stands: a relay that stands by itself has the path, or if wait is set, will.
	// We come to it, and start none.
	stands, wait bool
}

// life is one path's part of a session.
type life interface {
	// run is from its beginning until ctx is done, or there is no going on.
	run(ctx context.Context) error
	// where is its path; ready says why that is not served or read, nil if it is;
	// takeovers count what happened to it. These, and what follows, may be asked while
	// it runs.
	where() string
	ready() error
	takeovers() map[metric.Takeover]uint64
	// stats sums up what was seen; now is what there is in hand.
	stats() tap.Stats
	now() tap.Now
	// ended is told how run ended.
	ended(error)
	// remains says who goes on without us, if anybody.
	remains() string
}

// session is the taps of one or several paths, and what they print.
type session struct {
	paths          []endpoint
	show           *showFlags
	stdout, stderr io.Writer
	// sink takes every record too, if it is not nil.
	sink tap.Sink
	// names are sockets of runtimes that are not tapped, but may be asked who is who.
	names []string
	// kubelets are directories where a kubelet may have its files.
	kubelets []string
	// meanwhile runs once all paths are served; its end is the session's. Nil:
	// there is nothing to do meanwhile.
	meanwhile func(context.Context) error
}

// run starts a relay for each path and is their tap, until ctx is done, a relay
// fails, or none is left.
func (s *session) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out, err := s.show.open(ctx, stop, s.stdout, s.stderr, s.sink)
	if err != nil {
		return err
	}
	asker, asked := out.asks(ctx, s.kubelets)
	for _, path := range s.names {
		asker.Served(path, path)
	}
	var serving, ended sync.WaitGroup
	all := make([]life, len(s.paths))
	errs := make([]error, len(s.paths)+1)
	left := atomic.Int32{}
	left.Store(int32(len(all)))
	for i, e := range s.paths {
		served := sync.OnceFunc(serving.Done)
		one := s.life(e, s.show.payload.tell(tap.Config{Out: out.records, Log: out.log}), func(h mirror.Hello) {
			asker.Served(h.Listen, h.Upstream)
			served()
		})
		all[i] = one
		out.metrics.add(one)
		serving.Add(1)
		ended.Go(func() {
			errs[i] = one.run(ctx)
			one.ended(errs[i])
			served() // or it never will be
			if left.Add(-1) == 0 || errs[i] != errGaveUp {
				stop()
			}
		})
	}
	out.metrics.serve(ctx)
	if s.meanwhile != nil {
		serving.Wait()
		if ctx.Err() == nil {
			errs[len(s.paths)] = s.meanwhile(ctx)
		}
		stop()
	}
	ended.Wait()
	stop()
	asked()
	// Who only visits leaves to a service's tap; that to its next, if it can tell it where
	// it stopped.
	goesOn := slices.ContainsFunc(s.paths, func(e endpoint) bool { return e.stands && (!e.wait || s.show.remember != "") })
	err = joined(append(errs, out.close(goesOn)))
	sayGoodbye(s.stderr, all, out)
	return err
}

// asks has servers asked what the calls do not tell, until ctx is done. over waits for
// that, but not for a file system that does not answer.
func (o *output) asks(ctx context.Context, kubelets []string) (asker *ask.Asker, over func()) {
	asker = ask.New(o.pods, o.records.Listed, kubelets, o.log)
	asker.Own = ownSocket
	o.records.Stranger = asker.Strange
	asked := make(chan struct{})
	go func() { defer close(asked); asker.Run(ctx) }()
	return asker, func() { within(lastAnswer, asked) }
}

// ownSocket is where the server of a path listens, past whatever relay has the path now.
func ownSocket(path string) string {
	if st, err := takeover.Read(path); err == nil && st.Taken {
		return st.Server
	}
	return path
}

func (s *session) life(e endpoint, cfg tap.Config, served func(mirror.Hello)) life {
	if e.stands {
		return &visit{endpoint: e, condition: newCondition(e), cfg: cfg, served: served, stderr: s.stderr}
	}
	return newSocket(e, cfg, served, s.stderr)
}

// joined is all that failed. That a relay has said its own is of interest only
// if there is nothing else.
func joined(errs []error) error {
	told := func(err error) bool { return err == errSaid || err == errGaveUp }
	said := slices.ContainsFunc(errs, told)
	err := errors.Join(slices.DeleteFunc(errs, told)...)
	if err == nil && said {
		return errSaid
	}
	return err
}

// sayGoodbye sums up, with everything that was not told.
func sayGoodbye(w io.Writer, all []life, out *output) {
	var sum tap.Stats
	for _, one := range all {
		sum.Add(one.stats())
	}
	if sum.Connections > 0 {
		fmt.Fprintf(w, "grpc-tap: %s on %s", plural(sum.Calls, "call"), plural(sum.Connections, "connection"))
		for _, n := range []struct {
			n    uint64
			what string
		}{
			{uint64(sum.Running), "still running"},
			{sum.OverLimit, "calls over the limit"},
			{sum.Refused, "closed for want of an upstream"},
			{sum.Opaque, "not gRPC"},
			{sum.Old, "older than we are"},
			{sum.Blind, "blind"},
			{sum.DroppedBytes, "bytes not decoded"},
		} {
			if n.n > 0 {
				fmt.Fprintf(w, ", %d %s", n.n, n.what)
			}
		}
		fmt.Fprintln(w, out.losses())
	}
	for _, one := range all {
		if text := one.remains(); text != "" {
			fmt.Fprintln(w, "grpc-tap: "+text)
		}
	}
}
