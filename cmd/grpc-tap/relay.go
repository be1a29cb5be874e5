package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// mirrorFD is where a relay finds its end of the mirror: the first descriptor
// that exec.Cmd's ExtraFiles passes.
const mirrorFD = 3

func newRelay() *cobra.Command {
	var cfg proxy.Config
	c := &cobra.Command{
		Use:   "relay --listen PATH --upstream PATH",
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
			return proxy.Run(c.Context(), cfg, tap)
		},
	}
	pathFlags(c, &cfg)
	return c
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
