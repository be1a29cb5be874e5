// Command grpc-tap shows the gRPC calls that pass over a Unix socket.
//
// What goes where: calls to stdout, everything else to stderr. Exit codes: 0
// done, 1 failed (what, and what to do, in one line), 2 usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func main() {
	// A core dump would hold the bytes that pass. This is inherited by no one
	// across exec, so that each of our processes does it for itself.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	// A reader of our output that went away is an error of the write, not our
	// death: the socket has to be given back first.
	signal.Ignore(unix.SIGPIPE)
	ends := []os.Signal{os.Interrupt, unix.SIGTERM}
	if !signal.Ignored(unix.SIGHUP) { // by nohup
		ends = append(ends, unix.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not ask
	stderr := newConsole(os.Stderr)
	code := run(ctx, os.Args[1:], os.Stdout, stderr)
	stderr.close()
	os.Exit(code)
}

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case err == errSaid:
		return 1
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "grpc-tap: %v\nSee '%s --help'.\n", err, usage.command)
		return 2
	default:
		fmt.Fprintf(stderr, "grpc-tap: %v\n", err)
		return 1
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "grpc-tap",
		Short: "See the gRPC calls between the kubelet, the container runtime and storage drivers",
		Long: `grpc-tap is a transparent proxy on a node's Unix sockets. It passes every byte
on unchanged, decodes the CRI and CSI calls beside the path, and shows them as
lines, JSON and OpenTelemetry spans.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, args []string) error {
			return c.Help()
		},
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{c.CommandPath(), fmt.Errorf("there is no command %q", args[0])}
			}
			return nil
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{c.CommandPath(), err}
	})
	root.AddCommand(newAttach(), newDemo(), newDoctor(), newDiscover(), newProxy(), newRestore(),
		newRelay(), newGuard(), newDemoNode(), newVersion(), newAgent())
	return root
}

// usageError is a command line that can't be meant so: exit code 2.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// noArgs refuses arguments by name, for a path without its flag is a common slip.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{c.CommandPath(), fmt.Errorf("%s takes no arguments, only flags; what is %q?", c.Name(), args[0])}
	}
	return nil
}

// errSaid is a failure that was told on stderr already, as by a child.
var errSaid = errors.New("failed")
