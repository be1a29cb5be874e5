package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

func newDemo() *cobra.Command {
	var once bool
	var show showFlags
	c := &cobra.Command{
		Use:   "demo [--once]",
		Short: "A whole fake node behind the real relay and tap, to see what it looks like",
		Long: `demo starts a fake container runtime, a fake CSI driver and a fake kubelet, each
a process of its own, puts grpc-tap between them, and prints the calls: a pod
starts; another one's NFS volume fails to mount twice and then succeeds; a pod
stops. It needs no root, installs nothing, and leaves nothing behind.`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := show.check(); err != nil {
				return &usageError{c.CommandPath(), err}
			}
			return runDemo(c.Context(), once, &show, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().BoolVar(&once, "once", false, "end after one scene, of some ten seconds")
	show.add(c.Flags())
	return c
}

func runDemo(ctx context.Context, once bool, show *showFlags, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "grpc-tap-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo's sockets: %w; set TMPDIR to where you may write", err)
	}
	defer os.RemoveAll(dir)
	in := func(name string) string { return filepath.Join(dir, name) }
	paths := []swapConfig{
		{Config: proxy.Config{Listen: in("runtime.sock"), Upstream: in("runtime-itself.sock")}},
		{Config: proxy.Config{Listen: in("csi.sock"), Upstream: in("csi-itself.sock")}},
	}
	for i := range paths {
		if err := paths[i].check(); err != nil {
			return fmt.Errorf("%w; set TMPDIR to a shorter directory", err)
		}
	}

	node := fakeNode{dir: dir, say: func(line string) { fmt.Fprintln(stderr, "demo:", line) }}
	defer node.stop()
	for i, part := range []string{"runtime", "csi-driver"} {
		if err := node.serve(part, paths[i].Upstream); err != nil {
			return err
		}
	}
	var told story
	s := session{
		paths: []endpoint{swapped(paths[0]), swapped(paths[1])}, show: show, stdout: stdout, stderr: stderr, sink: &told,
		meanwhile: func(ctx context.Context) error {
			return node.kubelet(ctx, paths[0].Listen, paths[1].Listen, once)
		},
	}
	err = s.run(ctx)
	told.tell(node.say)
	return err
}
