package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/identity"
	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/proxy"
	"github.com/grpc-tap/grpc-tap/internal/tap"
)

// goodbye is how long the end may take: the relays' last events, the records
// still queued, the spans still unsent.
const goodbye = 2 * time.Second

// session is the taps of one or several paths, and what they print.
type session struct {
	paths          []proxy.Config
	show           *showFlags
	stdout, stderr io.Writer
	// sink takes every record too, if it is not nil.
	sink tap.Sink
	// meanwhile runs once all paths are served; its end is the session's. Nil:
	// there is nothing to do meanwhile.
	meanwhile func(context.Context) error
}

// run starts a relay for each path and is their tap, until ctx is done or a
// relay ends.
func (s *session) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out, err := s.show.open(ctx, stop, s.stdout, s.stderr, s.sink)
	if err != nil {
		return err
	}
	pods := identity.New()
	var serving, ended sync.WaitGroup
	all := make([]*socket, len(s.paths))
	errs := make([]error, len(s.paths)+1)
	for i, cfg := range s.paths {
		one := &socket{cfg: cfg, serving: sync.OnceFunc(serving.Done), stderr: s.stderr}
		one.tap = tap.New(tap.Config{Sinks: out.sinks, Log: out.log, Pods: pods, Serving: one.saysServing})
		all[i] = one
		serving.Add(1)
		ended.Go(func() {
			errs[i] = one.run(ctx)
			one.serving() // or it never will
			stop()
		})
	}
	if s.meanwhile != nil {
		serving.Wait()
		if ctx.Err() == nil {
			errs[len(s.paths)] = s.meanwhile(ctx)
		}
		stop()
	}
	ended.Wait()
	err = joined(append(errs, out.close()))
	sayGoodbye(s.stderr, all, out)
	return err
}

// joined is all that failed. That a relay has said its own is of interest only
// if there is nothing else.
func joined(errs []error) error {
	said := slices.Contains(errs, errSaid)
	err := errors.Join(slices.DeleteFunc(errs, func(err error) bool { return err == errSaid })...)
	if err == nil && said {
		return errSaid
	}
	return err
}

// socket is one path that is served: its relay, and the tap that reads it.
type socket struct {
	cfg     proxy.Config
	relay   *child
	tap     *tap.Tap
	serving func()
	served  bool
	stderr  io.Writer
}

// run is a socket's life: from its relay's start until ctx is done and the
// relay has detached, or the relay is gone.
func (s *socket) run(ctx context.Context) error {
	relay, err := startRelay(s.cfg, s.stderr)
	if err != nil {
		return err
	}
	s.relay = relay
	ahead := mirror.NewAhead(relay.mirror, mirror.DefaultAhead)
	read := make(chan error, 1)
	go func() { read <- s.read(ahead) }()
	select {
	case err = <-read:
	case <-ctx.Done():
		// Our end of writing asks the relay to detach.
		_ = relay.mirror.CloseWrite()
		_ = relay.mirror.SetReadDeadline(time.Now().Add(goodbye))
		err = <-read
	}
	_ = relay.mirror.Close()
	ahead.Close()
	switch {
	case err != nil && ctx.Err() != nil && !s.served:
		return nil // ended before it had begun
	case err != nil:
		return relay.blame(err)
	case ctx.Err() == nil:
		return fmt.Errorf("the relay (pid %d) was told to end by somebody else; %s is taken away until grpc-tap is started again",
			relay.cmd.Process.Pid, s.cfg.Listen)
	case s.tap.Stats().Remaining == 0:
		relay.wait(goodbye)
	}
	return nil
}

func (s *socket) read(ahead *mirror.Ahead) error {
	r, hello, err := mirror.NewReader(ahead)
	if err == nil {
		err = mirror.Ready(s.relay.mirror)
	}
	if err == nil {
		err = s.tap.Run(r, hello)
	}
	return err
}

func (s *socket) saysServing(h mirror.Hello, upstream string) {
	s.served = true
	fmt.Fprintf(s.stderr, "grpc-tap: serving %s, relayed to %s by pid %d; Ctrl-C ends it\n", h.Listen, h.Upstream, h.PID)
	if upstream != "" {
		fmt.Fprintf(s.stderr, "grpc-tap: the upstream does not answer yet (%s); clients are closed at once until it does\n", upstream)
	}
	s.serving()
}

// sayGoodbye sums up, with everything that was not told.
func sayGoodbye(w io.Writer, all []*socket, out *output) {
	var sum tap.Stats
	for _, s := range all {
		st := s.tap.Stats()
		sum.Calls += st.Calls
		sum.Running += st.Running
		sum.Connections += st.Connections
		sum.Refused += st.Refused
		sum.Opaque += st.Opaque
		sum.Blind += st.Blind
		sum.DroppedBytes += st.DroppedBytes
		sum.OverLimit += st.OverLimit
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
			{sum.Blind, "blind"},
			{sum.DroppedBytes, "bytes not decoded"},
		} {
			if n.n > 0 {
				fmt.Fprintf(w, ", %d %s", n.n, n.what)
			}
		}
		fmt.Fprintln(w, out.losses())
	}
	for _, s := range all {
		if n := s.tap.Stats().Remaining; n > 0 {
			fmt.Fprintf(w, "grpc-tap: %s is taken away; pid %d goes on relaying %s until the clients hang up (to cut them off: kill -9 %[2]d)\n",
				s.cfg.Listen, s.relay.cmd.Process.Pid, plural(uint64(n), "connection"))
		}
	}
}
