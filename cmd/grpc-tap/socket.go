package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
	"github.com/grpc-tap/grpc-tap/internal/tap"
)

// errGaveUp is that a relay gave its path back by itself, and said why: the
// other paths' sessions go on.
var errGaveUp = errors.New("gave up")

// socket is one path that a relay of ours serves: that relay, and the tap that
// reads it.
type socket struct {
	endpoint
	*condition
	relay   *child
	tap     *tap.Tap
	serving func(mirror.Hello)
	served  bool
	stderr  io.Writer
}

func newSocket(e endpoint, cfg tap.Config, serving func(mirror.Hello), stderr io.Writer) *socket {
	s := &socket{endpoint: e, condition: newCondition(e), serving: serving, stderr: stderr}
	cfg.Serving, cfg.Away = s.saysServing, s.saysAway
	cfg.Redial = func(conn uint64) { _ = mirror.AskRedial(s.relay.mirror, conn) } // one that is gone is seen by its end
	s.tap = tap.New(cfg)
	return s
}

func (s *socket) stats() tap.Stats { return s.tap.Stats() }
func (s *socket) now() tap.Now     { return s.tap.Now() }

func (s *socket) remains() string {
	n := s.tap.Stats().Remaining
	if n == 0 {
		return ""
	}
	is := "taken away"
	switch {
	case s.returned() != nil:
		is = "not given back yet"
	case s.taken:
		is = "given back"
	}
	return fmt.Sprintf("%s is %s; pid %d goes on relaying %s until the clients hang up (to cut them off: kill -9 %[3]d)",
		s.path, is, s.relay.cmd.Process.Pid, plural(uint64(n), "connection"))
}

// run is a socket's life: from its relay's start until ctx is done and the
// relay has detached, or the relay is gone.
func (s *socket) run(ctx context.Context) error {
	relay, err := startRelay(s.endpoint.relay, s.stderr)
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
		return s.consequence(relay.blame(err))
	case ctx.Err() == nil && s.taken:
		within(lastLines, relay.silent)
		return errGaveUp
	case ctx.Err() == nil:
		return fmt.Errorf("the relay (pid %d) was told to end by somebody else; %s is taken away until grpc-tap is started again",
			relay.cmd.Process.Pid, s.path)
	case s.tap.Stats().Remaining == 0:
		within(goodbye, relay.exited)
	}
	return s.returned()
}

// consequence adds what a relay's death means for its path.
func (s *socket) consequence(err error) error {
	var died *diedError
	switch {
	case !errors.As(err, &died):
		return err
	case !s.taken:
		return fmt.Errorf("%w; its path is dead until grpc-tap is started again, connections were cut", err)
	}
	// Its guard restores the path in an instant; where that was killed too, or
	// there is none, nobody would.
	did, rerr := s.awaitRestored(died.pid)
	within(lastLines, s.relay.silent) // for what the guard says
	if rerr != nil {
		return fmt.Errorf("%w, and %s could not be given back: %w; say `grpc-tap restore %[2]s`", err, s.path, rerr)
	}
	return fmt.Errorf("%w; connections were cut, %s: %s", err, s.path, did)
}

// returned makes sure that a path was given back.
func (s *socket) returned() error {
	if !s.taken {
		return nil
	}
	if st, err := takeover.Read(s.path); err == nil && (st.Taken || st.By == s.relay.cmd.Process.Pid) {
		return fmt.Errorf("%s is not given back; say `grpc-tap restore %[1]s`", s.path)
	}
	return nil
}

// restoredWithin is how long a guard may take to give a path back.
const restoredWithin = 2 * time.Second

// awaitRestored waits for a guard to give a path back, and does it where it
// doesn't.
func (s *socket) awaitRestored(relay int) (did string, err error) {
	for end := time.Now().Add(restoredWithin); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		st, err := takeover.Read(s.path)
		switch {
		case err != nil:
		case st.By != 0 && st.By != relay:
			return "the path is a later session's", nil
		case len(st.Left) == 0 && st.By == 0:
			return "its guard gave the path back", nil
		}
	}
	did, _, err = takeover.Restore(s.path, true)
	return did, errors.Join(err, takeover.RecordDeath(s.stateDir, s.path, relay, time.Now()))
}

func (s *socket) read(ahead *mirror.Ahead) error {
	r, hello, err := mirror.NewReader(ahead)
	if err == nil {
		err = mirror.Ready(s.relay.mirror, mirror.Read)
	}
	if err == nil {
		err = s.tap.Run(r, hello)
	}
	return err
}

func (s *socket) saysServing(h mirror.Hello, upstream string) {
	again := s.served
	s.served = true
	s.turned(pathTaken, "")
	switch {
	case again:
		fmt.Fprintf(s.stderr, "grpc-tap: on %s again\n", s.path)
	case s.taken:
		fmt.Fprintf(s.stderr, "grpc-tap: on %s, relayed by pid %d; Ctrl-C gives it back\n", s.path, h.PID)
		if s.unseen != "" {
			fmt.Fprintf(s.stderr, "grpc-tap: %s: %s\n", s.path, s.unseen)
		}
	default:
		fmt.Fprintf(s.stderr, "grpc-tap: serving %s, relayed to %s by pid %d; Ctrl-C ends it\n", h.Listen, h.Upstream, h.PID)
	}
	if upstream != "" {
		fmt.Fprintf(s.stderr, "grpc-tap: the upstream does not answer yet (%s); clients are closed at once until it does\n", upstream)
	}
	s.serving(h)
}

func (s *socket) saysAway(_ mirror.Hello, why string) {
	s.turned(pathAway, "its relay is off it ("+why+")")
	fmt.Fprintf(s.stderr, "grpc-tap: off %s (%s); waiting for it\n", s.path, why)
}
