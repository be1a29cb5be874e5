// Command fakecri runs the fake runtime, CSI driver and kubelet by hand, for instance on both sides of grpc-tap proxy on a
// machine that has no runtime:
//
//	fakecri serve   --cri /tmp/up.sock --csi /tmp/csi.sock --scene
//	fakecri kubelet --cri /tmp/tap.sock --csi /tmp/csi.sock --for 10s --polls-per-second 2
//
// What happens goes to stderr. Exit codes: 0 done, also after Ctrl-C or SIGTERM; 1 failed; 2 usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := run(ctx, os.Args[1:], os.Stderr)
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "fakecri:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New(`usage: fakecri serve [--cri PATH] [--csi PATH] [--pods N] [--scene]
       fakecri kubelet --cri PATH [--csi PATH] [--for DURATION] [--polls-per-second N]`)

func run(ctx context.Context, args []string, stderr io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	flags := flag.NewFlagSet("fakecri "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	criPath := flags.String("cri", "", "socket `path` of the runtime")
	csiPath := flags.String("csi", "", "socket `path` of the CSI driver")
	switch args[0] {
	case "serve":
		pods := flags.Int("pods", 0, "how many pods the runtime has at the start, of about 2 KB each in a list")
		scene := flags.Bool("scene", false, "take a real runtime's time, and let each pod's first two NodePublishVolume calls fail as an NFS mount does")
		if err := parse(flags, args[1:]); err != nil {
			return err
		}
		if *criPath == "" && *csiPath == "" {
			return fmt.Errorf("serve: neither --cri nor --csi\n%w", errUsage)
		}
		return serve(ctx, *criPath, *csiPath, *pods, *scene, stderr)
	case "kubelet":
		d := flags.Duration("for", 10*time.Second, "how long to play scenes and poll")
		polls := flags.Float64("polls-per-second", 1, "rounds of Version, Status, ListPodSandbox, ListContainers, ImageFsInfo a second")
		if err := parse(flags, args[1:]); err != nil {
			return err
		}
		if *criPath == "" || *polls <= 0 {
			return fmt.Errorf("kubelet: --cri must be given, --polls-per-second must be above 0\n%w", errUsage)
		}
		return kubelet(ctx, *criPath, *csiPath, *d, time.Duration(float64(time.Second) / *polls), stderr)
	default:
		return fmt.Errorf("unknown command %q\n%w", args[0], errUsage)
	}
}

func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage // the flag package has said what is wrong
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q\n%w", flags.Arg(0), errUsage)
	}
	return nil
}

func serve(ctx context.Context, criPath, csiPath string, pods int, scene bool, stderr io.Writer) error {
	if criPath != "" {
		rt := fakecri.NewRuntime()
		rt.AddPods(pods)
		if scene {
			rt.ScriptScene()
		}
		if err := rt.Start(criPath); err != nil {
			return err
		}
		defer rt.Stop()
		fmt.Fprintln(stderr, "fakecri: runtime on", criPath)
	}
	if csiPath != "" {
		d := fakecri.NewDriver()
		if scene {
			d.ScriptScene()
		}
		if err := d.Start(csiPath); err != nil {
			return err
		}
		defer d.Stop()
		fmt.Fprintln(stderr, "fakecri: CSI driver", d.Name, "on", csiPath)
	}
	<-ctx.Done()
	return nil
}

func kubelet(ctx context.Context, criPath, csiPath string, d, pollEvery time.Duration, stderr io.Writer) error {
	driver := ""
	var opts []fakecri.Option
	if csiPath != "" {
		var err error
		if driver, err = driverName(ctx, csiPath); err != nil {
			return err
		}
		opts = append(opts, fakecri.WithCSI(driver, csiPath))
	}
	k, err := fakecri.NewKubelet(criPath, opts...)
	if err != nil {
		return err
	}
	defer k.Close()
	say := func(line string) { fmt.Fprintln(stderr, "fakecri:", line) }
	// Not WithTimeout: a deadline goes out with each call, and the server may see it pass before we do, which then looks like a failure.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(d, cancel).Stop()
	var polling sync.WaitGroup
	defer polling.Wait()
	polling.Go(func() { k.PollUntil(ctx, pollEvery, say) })
	for round := 0; ctx.Err() == nil; round++ {
		if err := k.PlayScene(ctx, driver, round, say); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// driverName asks a driver for its name, as the registrar does.
func driverName(ctx context.Context, path string) (string, error) {
	k, err := fakecri.NewKubelet("", fakecri.WithCSI("", path))
	if err != nil {
		return "", err
	}
	defer k.Close()
	conn, err := k.DialCSI("")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	info, err := csi.NewIdentityClient(conn).GetPluginInfo(ctx, &csi.GetPluginInfoRequest{})
	if err != nil {
		return "", fmt.Errorf("CSI driver at %s: %w", path, err)
	}
	return info.GetName(), nil
}
