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
	return &cobra.Command{
		Use:   "guard",
		Short: "The process that gives a path back if its relay is killed or hangs; relays start it",
		Long: `guard holds what a relay holds of a path that was taken over: the listening
socket, and the server's. When the relay dies or hangs, the guard gives the path
back and carries the clients that were waiting. Relays start it; there is no use
in starting it by hand. It moves itself out of the cgroup that it was started in,
and ends with its relay.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			// Whatever ends the relay must not end its guard.
			signal.Ignore(os.Interrupt, unix.SIGHUP, unix.SIGTERM)
			log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			return takeover.Guard(c.Context(), takeover.ControlSocket(), log)
		},
	}
}
