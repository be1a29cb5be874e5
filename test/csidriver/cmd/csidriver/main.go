// Command csidriver runs the CSI driver of test/csidriver, for csi-sanity, a kubelet, or by hand:
//
//	csidriver --endpoint /var/lib/kubelet/plugins/nfs.csi.grpc-tap.test/csi.sock --root /tmp/volumes \
//	          --registration /var/lib/kubelet/plugins_registry/nfs.csi.grpc-tap.test-reg.sock
//
// It needs root, and nfs-common where NFS volumes are mounted. What happens goes to stderr. Exit codes: 0 done, also after
// Ctrl-C or SIGTERM; 1 failed; 2 usage.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/csidriver"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := run(ctx, os.Args[1:], os.Stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "csidriver:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: csidriver --endpoint PATH --root DIR [--name NAME] [--node-id ID] [--registration PATH [--kubelet-registration-path PATH]]")

func run(ctx context.Context, args []string, stderr io.Writer) error {
	c := csidriver.Config{Log: stderr}
	flags := flag.NewFlagSet("csidriver", flag.ContinueOnError)
	flags.SetOutput(stderr)
	endpoint := flags.String("endpoint", "", "socket `path` to serve on")
	reg := flags.String("registration", "", "socket `path` in plugins_registry, where the kubelet looks for drivers")
	dialled := flags.String("kubelet-registration-path", "", "socket `path` that the kubelet is to dial, if it is not the endpoint")
	flags.StringVar(&c.Root, "root", "", "`directory` of the volumes")
	flags.StringVar(&c.Name, "name", csidriver.DefaultName, "the driver's name")
	flags.StringVar(&c.NodeID, "node-id", "", "the node's id")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil: // which the flag package has said
		return errUsage
	case flags.NArg() > 0 || *endpoint == "" || c.Root == "":
		return errUsage
	}
	// What a mount(8) leaves behind becomes our child, so that it can be told from anybody else's and ended.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of orphaned mounts: %w", err)
	}
	d, err := csidriver.New(c)
	if err != nil {
		return err
	}
	if err := d.Start(*endpoint); err != nil {
		return err
	}
	defer d.Stop()
	if *reg != "" {
		if err := d.Register(*reg, cmp.Or(*dialled, *endpoint)); err != nil {
			return err
		}
	}
	fmt.Fprintln(stderr, "csidriver:", d.Name, "on", *endpoint)
	<-ctx.Done()
	return nil
}
