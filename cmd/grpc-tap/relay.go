package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/host"
	"github.com/grpc-tap/grpc-tap/internal/proxy"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

// mirrorFD is where a relay finds its end of the mirror: the first descriptor
// that exec.Cmd's ExtraFiles passes.
const mirrorFD = 3

func newRelay() *cobra.Command {
	var r relayFlags
	c := &cobra.Command{
		Use:   "relay {--listen PATH --upstream PATH | --take PATH}",
		Short: "The process that carries the bytes; other commands and services start it",
		Long: `relay carries the bytes between clients and upstream and mirrors them to a tap.

Without --mirror that is the command that started it, over the socket that it
inherited as descriptor 3. It ends when that has gone and its last connection is
closed.

With --mirror it stands by itself, as a service: taps (grpc-tap attach) come to it
by that socket and go. The path is taken over once one has come; the newest reads,
and the others stand by. If none reads for --orphan-timeout, the relay gives the
path back, sends its clients there, and ends. Another relay that is started for the
same path takes its place, without a gap: so does SIGHUP, which starts this very
command again, from a newer file if there is one.

With --fail-open, --listen is a link to --upstream wherever no relay serves it.`,
		Example: `  grpc-tap relay --take /run/containerd/containerd.sock --mirror /run/grpc-tap/mirror/cri.sock
  grpc-tap attach /run/containerd/containerd.sock      # is its tap, until Ctrl-C`,
		DisableFlagsInUseLine: true,
		Args:                  noArgs,
		PreRunE:               r.check,
		RunE:                  r.run,
	}
	f := c.Flags()
	swapFlags(f, &r.swap)
	takeFlags(f, &r.take)
	f.BoolVar(&r.take.KeepClients, "keep-clients", false, "ask no client to dial anew when the path is given back")
	f.StringVar(&r.take.Path, "take", "", "`PATH` of a socket in use to take over")
	f.StringVar(&r.take.Door, "mirror", "", "`PATH` of the socket where taps come; its directory must be its owner's alone")
	f.DurationVar(&r.take.Orphan, "orphan-timeout", 10*time.Minute, "with --mirror: give the path back if no tap reads for this long (0: never)")
	f.StringVar(&r.ofAgent, "of-agent", "", "leave the container that this was started in, remove this executable at the end, and say in `FILE` why it ended if nobody wished it")
	_ = f.MarkHidden("of-agent") // it is there: this fails for no flag of ours
	f.Uint32Var(&r.inPlaceOf, "in-place-of", 0, "with --of-agent: take the place of the relay with this `PID`, and of no other")
	_ = f.MarkHidden("in-place-of")
	f.StringVar(&r.take.Guard, "guard", "", "`PATH` of the socket of grpc-tap guard --listen (default: start a guard)")
	return c
}

// relayFlags are what a relay is told.
type relayFlags struct {
	swap swapConfig
	take takeover.Config
	// ofAgent: an agent started this from a file that it put on the node, and looks here
	// for why it ended.
	ofAgent string
	// inPlaceOf is whose place the agent saw it take. A service manager may start this again
	// long after another relay has taken our own place.
	inPlaceOf uint32
}

func (r *relayFlags) check(c *cobra.Command, _ []string) error {
	err := errors.Join(absolute(&r.take.Path), absolute(&r.take.Door), absolute(&r.take.Guard))
	swaps := r.swap.Listen != "" || r.swap.Upstream != ""
	switch {
	case err != nil:
	case r.take.Path != "" && swaps:
		err = errors.New("--take is for a socket in use, --listen and --upstream are for a path of grpc-tap's own: give the one or the other")
	case r.take.Path == "":
		err = r.swap.check()
	}
	switch {
	case err != nil:
	case r.take.Door != "" && r.take.Path == "" && !r.swap.failOpen:
		err = errors.New("--mirror: a relay that stands by itself leaves its path alive: say --fail-open too")
	case r.take.Orphan < 0:
		err = errors.New("--orphan-timeout takes no negative duration")
	}
	if err != nil {
		return &usageError{c.CommandPath(), err}
	}
	return nil
}

func (r *relayFlags) run(c *cobra.Command, _ []string) error {
	ctx := c.Context()
	// A second SIGTERM, as a service manager may send, must not cut off the
	// clients of a relay that ends already.
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM)
	// A terminal's Ctrl-C and hang-up are the tap's to act on.
	signal.Ignore(os.Interrupt, unix.SIGHUP)
	r.take.Drain = r.swap.Drain
	r.take.Log = slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
	if r.swap.failOpen {
		r.take.Path, r.take.Upstream = r.swap.Listen, r.swap.Upstream
	}
	if r.take.Door != "" {
		r.take.Ready = func(status string) { notify(r.take.Log, status) }
		defer succeedOnHUP(r.take.Log)()
		return r.stand(ctx)
	}
	tap, err := inheritedMirror()
	switch {
	case err != nil:
		return &usageError{c.CommandPath(), err}
	case r.take.Path != "":
		return takeover.Run(ctx, r.take, tap)
	}
	return proxy.Run(ctx, r.swap.Config, tap)
}

// stand is a relay's life to which taps come.
func (r *relayFlags) stand(ctx context.Context) error {
	if r.ofAgent == "" {
		return takeover.Run(ctx, r.take, nil)
	}
	kept, keptErr := host.KeepSelf()
	if os.Getenv("INVOCATION_ID") == "" { // else it is in a unit of systemd's
		if err := takeover.LeaveCgroup(); err != nil {
			r.take.Log.Warn("the relay may be ended with the agent's container", "cause", err)
		}
	}
	r.take.Yields = func(pid uint32) bool { return pid != r.inPlaceOf }
	err := takeover.Run(ctx, r.take, nil)
	switch {
	case errors.Is(err, takeover.ErrYielded):
		r.take.Log.Info("nothing is to be done", "cause", err)
		err = nil
	case err != nil:
		if err := leaveReason(r.ofAgent, err); err != nil {
			r.take.Log.Warn("the agent can't be told why", "cause", err)
		}
	}
	// Whoever starts us again puts it there again.
	if keptErr == nil {
		keptErr = kept.Leave()
	}
	if keptErr != nil {
		r.take.Log.Warn("our executable is left on the node", "cause", keptErr)
	}
	return err
}

// takeFlags are the flags that attach and its relays share.
func takeFlags(f *pflag.FlagSet, cfg *takeover.Config) {
	f.BoolVar(&cfg.Unguarded, "unguarded", false, "do without the process that gives the paths back if the relay is killed")
	stateFlag(f, &cfg.StateDir)
}

func stateFlag(f *pflag.FlagSet, dir *string) {
	f.StringVar(dir, "state-dir", takeover.StateDir, "`DIR` of the kill switch (a file named disable there) and of what is known of relays that died")
}

// swapped is a path of grpc-tap's own.
func swapped(cfg swapConfig) endpoint {
	return endpoint{path: cfg.Listen, taken: cfg.failOpen, stateDir: takeover.StateDir, relay: []string{
		"--listen", cfg.Listen, "--upstream", cfg.Upstream, "--drain", cfg.Drain.String(), fmt.Sprintf("--fail-open=%t", cfg.failOpen),
	}}
}

// taking is a path in use.
func taking(cfg takeover.Config) endpoint {
	return endpoint{path: cfg.Path, taken: true, stateDir: cfg.StateDir, relay: []string{
		"--take", cfg.Path, "--drain", cfg.Drain.String(), "--state-dir", cfg.StateDir, fmt.Sprintf("--unguarded=%t", cfg.Unguarded),
		fmt.Sprintf("--keep-clients=%t", cfg.KeepClients),
	}}
}

// inheritedMirror makes a connection of the inherited descriptor.
func inheritedMirror() (*net.UnixConn, error) {
	f := os.NewFile(mirrorFD, "mirror")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("relay is started by other commands, such as grpc-tap proxy: descriptor %d is no mirror (%w)", mirrorFD, err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("relay is started by other commands, such as grpc-tap proxy: descriptor %d is no Unix socket", mirrorFD)
	}
	return u, nil
}

// swapConfig is a path of grpc-tap's own, as relay and who starts it are told.
type swapConfig struct {
	proxy.Config
	failOpen bool
}

func swapFlags(f *pflag.FlagSet, cfg *swapConfig) {
	f.StringVar(&cfg.Listen, "listen", "", "`PATH` of the socket to serve: where clients dial")
	f.StringVar(&cfg.Upstream, "upstream", "", "`PATH` of the socket to relay to: where the runtime or driver listens")
	f.BoolVar(&cfg.failOpen, "fail-open", false, "leave a link to --upstream at --listen wherever nobody serves it, also after a kill")
	f.DurationVar(&cfg.Drain, "drain", 0, "cut off connections that remain this long after the end (0: let them end by themselves)")
}

// absolute makes a path independent of the working directory, which is not the
// relay's.
func absolute(path *string) (err error) {
	if *path != "" {
		*path, err = filepath.Abs(*path)
	}
	return err
}

func (cfg *swapConfig) check() error {
	if err := errors.Join(absolute(&cfg.Listen), absolute(&cfg.Upstream)); err != nil {
		return err
	}
	for _, p := range []struct{ flag, path string }{{"--listen", cfg.Listen}, {"--upstream", cfg.Upstream}} {
		if err := proxy.CheckPath(p.flag, p.path); err != nil {
			return err
		}
	}
	// A path that fails open is a link to its upstream.
	if cfg.Listen == cfg.Upstream || !cfg.failOpen && proxy.SameSocket(cfg.Listen, cfg.Upstream) {
		return fmt.Errorf("--listen and --upstream are both %s: choose another path to listen on, and point the client at it", cfg.Upstream)
	}
	if cfg.Drain < 0 {
		return fmt.Errorf("--drain: %v is negative; give how long connections may remain, or 0 for no limit", cfg.Drain)
	}
	return nil
}
