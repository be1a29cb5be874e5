package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

func newRestore() *cobra.Command {
	var node discover.Config
	var noFollow bool
	c := &cobra.Command{
		Use:   "restore [PATH…]",
		Short: "Give sockets back, whoever took them over",
		Long: `restore undoes what attach did to a path, from what lies in the path's
directory alone: after a crash, from another container, with another version of
grpc-tap. A session that is alive notices and ends. Without a PATH it restores
every one that it finds on this node.

It never puts a socket that nobody serves over one that somebody does, and
leaves alone what is not grpc-tap's.`,
		RunE: func(c *cobra.Command, paths []string) error {
			return restore(c.OutOrStdout(), node, paths, !noFollow)
		},
	}
	kubeletFlag(c.Flags(), &node)
	c.Flags().BoolVar(&noFollow, "no-follow", false, "leave alone what a PATH that is a link leads to: somebody else may have taken that")
	return c
}

func restore(w io.Writer, node discover.Config, paths []string, follow bool) error {
	if len(paths) == 0 {
		if paths = leftBehind(node); len(paths) == 0 {
			fmt.Fprintln(w, "nothing of grpc-tap's was found beside any socket of this node")
		}
	}
	var failed []error
	for _, path := range paths {
		did, held, err := takeover.Restore(path, follow)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintf(w, "%s: %s\n", path, did)
		for _, h := range held {
			fmt.Fprintf(w, "%s: %s\n", path, mountedBy(h))
		}
	}
	return errors.Join(failed...)
}

// mountedBy says who depends on a relay's socket for good.
func mountedBy(h takeover.Holder) string {
	who := fmt.Sprintf("process %d (%q)", h.PID, h.Comm)
	if h.Pod != "" {
		who += fmt.Sprintf(" of pod %s", h.Pod)
	}
	if h.Host != "" {
		who += fmt.Sprintf(" on host %q", h.Host)
	}
	return fmt.Sprintf("%s has grpc-tap's socket mounted at %q, since it mounted it as a file while it was taken over; restart that pod", who, h.At)
}

// leftBehind finds every path of the node beside which something of ours lies.
func leftBehind(node discover.Config) []string {
	found := map[string]struct{}{}
	for _, dir := range node.Dirs() {
		for _, path := range takeover.Find(dir) {
			found[path] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
