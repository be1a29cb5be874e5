package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

// mirrorFD is where a relay finds its end of the mirror: the first descriptor
// that exec.Cmd's ExtraFiles passes.
const mirrorFD = 3

func newRelay() *cobra.Command {
	var cfg proxy.Config
	var take takeover.Config
	c := &cobra.Command{
		Use:   "relay {--listen PATH --upstream PATH | --take PATH}",
		Short: "The process that carries the bytes; other commands start it",
		Long: `relay carries the bytes between clients and upstream and mirrors them to the
tap that started it, over the socket that it inherited as descriptor 3. Other
commands start it; there is no use in starting it by hand.

It ends when its tap has gone and its last connection is closed.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			tap, err := inheritedMirror()
			if err != nil {
				return &usageError{c.CommandPath(), err}
			}
			// A terminal's Ctrl-C and hang-up are the tap's to act on.
			signal.Ignore(os.Interrupt, unix.SIGHUP)
			// A second SIGTERM, as a service manager may send, must not cut off the
			// clients of a relay that ends already.
			signal.Notify(make(chan os.Signal, 1), unix.SIGTERM)
			if take.Path == "" {
				return proxy.Run(c.Context(), cfg, tap)
			}
			take.Drain = cfg.Drain
			take.Log = slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			return takeover.Run(c.Context(), take, tap)
		},
	}
	pathFlags(c, &cfg)
	swap := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if take.Path != "" {
			return nil
		}
		return swap(c, args)
	}
	takeFlags(c.Flags(), &take)
	c.Flags().BoolVar(&take.KeepClients, "keep-clients", false, "ask no client to dial anew when the path is given back")
	c.Flags().StringVar(&take.Path, "take", "", "`PATH` of a socket in use to take over")
	return c
}

// takeFlags are the flags that attach and its relays share.
func takeFlags(f *pflag.FlagSet, cfg *takeover.Config) {
	f.BoolVar(&cfg.Unguarded, "unguarded", false, "do without the process that gives the paths back if the relay is killed")
	f.StringVar(&cfg.StateDir, "state-dir", takeover.StateDir, "`DIR` of the kill switch (a file named disable there) and of what is known of relays that died")
}

// swapped is a path of grpc-tap's own.
func swapped(cfg proxy.Config) endpoint {
	return endpoint{path: cfg.Listen, relay: []string{"--listen", cfg.Listen, "--upstream", cfg.Upstream, "--drain", cfg.Drain.String()}}
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

// pathFlags are the flags that a relay and who starts it share.
func pathFlags(c *cobra.Command, cfg *proxy.Config) {
	f := c.Flags()
	f.StringVar(&cfg.Listen, "listen", "", "`PATH` of the socket to serve: where clients dial")
	f.StringVar(&cfg.Upstream, "upstream", "", "`PATH` of the socket to relay to: where the runtime or driver listens")
	f.DurationVar(&cfg.Drain, "drain", 0, "cut off connections that remain this long after the end (0: let them end by themselves)")
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if err := errors.Join(absolute(&cfg.Listen), absolute(&cfg.Upstream)); err != nil {
			return err
		}
		if err := checkPaths(cfg); err != nil {
			return &usageError{c.CommandPath(), err}
		}
		return nil
	}
}

// absolute makes a path independent of the working directory, which is not the
// relay's.
func absolute(path *string) (err error) {
	if *path != "" {
		*path, err = filepath.Abs(*path)
	}
	return err
}

func checkPaths(cfg *proxy.Config) error {
	for _, p := range []struct{ flag, path string }{{"--listen", cfg.Listen}, {"--upstream", cfg.Upstream}} {
		if err := proxy.CheckPath(p.flag, p.path); err != nil {
			return err
		}
	}
	if proxy.SameSocket(cfg.Listen, cfg.Upstream) {
		return fmt.Errorf("--listen and --upstream are both %s: choose another path to listen on, and point the client at it", cfg.Upstream)
	}
	if cfg.Drain < 0 {
		return fmt.Errorf("--drain: %v is negative; give how long connections may remain, or 0 for no limit", cfg.Drain)
	}
	return nil
}
