package main

import (
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

func newGuard() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use:   "guard",
		Short: "The process that gives a path back if its relay is killed or hangs; relays and services start it",
		Long: `guard holds what a relay holds of a path that was taken over: the listening
socket, and the server's. When the relay dies or hangs, the guard gives the path
back and carries the clients that were waiting. Relays start it; there is no use
in starting it by hand. It moves itself out of the cgroup that it was started in,
and ends with its relay.

With --listen it is a service of its own, and guards each relay that is started with
--guard and the same path. It must not be ended together with them: no two of them
share a cgroup.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			if listen != "" {
				if err := absolute(&listen); err != nil {
					return err
				}
				return takeover.Guards(c.Context(), listen, log, func() { notify(log, "guarding the relays that come to "+listen) })
			}
			// Whatever ends the relay must not end its guard.
			signal.Ignore(os.Interrupt, unix.SIGHUP, unix.SIGTERM)
			return takeover.Guard(c.Context(), takeover.ControlSocket(), log)
		},
	}
	c.Flags().StringVar(&listen, "listen", "", "`PATH` of a socket where relays come; its directory must be its owner's alone")
	return c
}
