package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/internal/proxy"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

func newAttach() *cobra.Command {
	var a attach
	var show showFlags
	c := &cobra.Command{
		Use:   "attach [TARGET…]",
		Short: "Take over sockets in use, show their calls, and give them back",
		Long: `attach puts a relay on sockets that are in use, shows the calls that pass, and
gives the sockets back on Ctrl-C, after --for, or when it dies. Nothing has to be
restarted or configured.

A TARGET is cri, csi, csi/DRIVER, all, or a socket's path; none is cri and csi.
grpc-tap discover lists what there is. all leaves out device-plugins and
plugins_registry, whose directories the kubelet watches; a path there needs
--force.

A client that is connected already is seen once it dials anew. attach says who
that is: the kubelet does so for each call to a CSI driver, and to the runtime
when it is restarted. --live-attach has it do so: at a moment when the runtime is
at rest, one GOAWAY frame is written to the client in its place. It loses no
call; where it is not certain to be safe it is not done, and attach says why.

Where a relay stands by itself on a path, as a service (grpc-tap relay --mirror),
attach takes nothing over: it reads there until it ends, in the place of whoever
read until then.

A process of its own, the guard, gives the paths back should the relay be killed;
if both are killed at once, grpc-tap restore does. A file /run/grpc-tap/disable
ends every takeover on the node, and allows none while it is there.`,
		Example: `  grpc-tap attach                        # the runtime and every CSI driver
  grpc-tap attach csi --errors           # what goes wrong with volumes
  grpc-tap attach csi/nfs.csi.k8s.io --for 5m -o json > calls.jsonl
  grpc-tap attach cri --pod web`,
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, targets []string) error {
			if show.remember != "" && !a.join {
				return &usageError{c.CommandPath(), errors.New("--remember is for a tap that another follows: it needs --join")}
			}
			if err := errors.Join(show.check(), a.check(targets)); err != nil {
				return &usageError{c.CommandPath(), err}
			}
			a.stderr = c.ErrOrStderr()
			paths, err := a.paths(c.Context(), targets)
			if err != nil {
				return err
			}
			s := session{show: &show, stdout: c.OutOrStdout(), stderr: a.stderr, kubelets: a.node.Kubelets(), names: a.runtimes}
			for _, found := range paths {
				s.paths = append(s.paths, a.endpoint(found))
			}
			if a.live {
				s.meanwhile = a.moveClients(paths)
			}
			ctx := c.Context()
			if a.length > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, a.length)
				defer cancel()
			}
			return s.run(ctx)
		},
	}
	f := c.Flags()
	f.DurationVar(&a.length, "for", 0, "give the sockets back after this `DURATION`, such as 10m (0: on Ctrl-C)")
	f.BoolVar(&a.live, "live-attach", false, "have clients that are connected already dial anew, at a moment when that can't hurt")
	f.BoolVar(&a.force, "force", false, "take over paths in device-plugins or plugins_registry too, if they are named")
	f.BoolVar(&a.join, "join", false, "only be the tap of relays that stand by themselves at the paths given, and wait for such; take nothing over")
	f.StringVar(&show.remember, "remember", "", "with --join: keep in this `FILE` what the next tap needs to go on with pods' traces")
	f.DurationVar(&a.take.Drain, "drain", 0, "cut off connections that remain this long after the end (0: let them end by themselves)")
	kubeletFlag(f, &a.node)
	takeFlags(f, &a.take)
	show.add(f)
	return c
}

// attach is what to take over, and how.
type attach struct {
	take     takeover.Config
	node     discover.Config
	runtimes []string // sockets that were found and are not attached to
	length   time.Duration
	force    bool
	join     bool
	live     bool
	stderr   io.Writer
}

// endpoint is how one socket is come by: a relay that stands there is visited,
// else one of ours takes it.
func (a *attach) endpoint(found discover.Socket) endpoint {
	if st, err := takeover.Read(found.Path); a.join || err == nil && st.Door != "" {
		return endpoint{path: found.Path, stands: true, wait: a.join}
	}
	one := a.take
	one.Path, one.KeepClients = found.Path, found.Kind == discover.CSI
	e := taking(one)
	e.unseen = unseen(found, a.live)
	return e
}

func (a *attach) check(targets []string) error {
	for _, t := range targets {
		switch {
		case slices.Contains([]string{"cri", "csi", "all"}, t), strings.HasPrefix(t, "csi/") && len(t) > len("csi/"), strings.Contains(t, "/") && !strings.HasPrefix(t, "csi/"):
		default:
			return fmt.Errorf("%q is no target: give cri, csi, csi/DRIVER, all, or a socket's path (./%[1]s for a file here)", t)
		}
	}
	if a.join && (len(targets) == 0 || slices.ContainsFunc(targets, func(t string) bool { return !isPath(t) })) {
		return errors.New("--join takes the paths of sockets where relays stand (grpc-tap relay --mirror)")
	}
	if a.take.Drain < 0 || a.length < 0 {
		return errors.New("--drain and --for take no negative durations")
	}
	return nil
}

// paths are the sockets that the targets stand for, each once.
func (a *attach) paths(ctx context.Context, targets []string) (paths []discover.Socket, err error) {
	if a.join {
		return standing(targets)
	}
	if err := errors.Join(takeover.Disabled(a.take.StateDir), takeover.Tripped(a.take.StateDir)); err != nil {
		return nil, err
	}
	if len(targets) == 0 {
		targets = []string{"cri", "csi"}
	}
	var node []discover.Socket
	if slices.ContainsFunc(targets, func(t string) bool { return !isPath(t) }) {
		if node, err = a.node.Sockets(ctx); err != nil && len(node) == 0 {
			return nil, err
		}
	}
	seen := map[string]bool{}
	for _, t := range targets {
		found, err := a.find(ctx, t, node)
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			real, err := takeover.Resolve(s.Path)
			if err != nil {
				return nil, err
			}
			if !seen[real] {
				seen[real] = true
				paths = append(paths, s)
			}
		}
	}
	for _, s := range node {
		if s.Kind == discover.CRI && !s.Dead && !seen[s.Path] {
			a.runtimes = append(a.runtimes, s.Path)
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("there is nothing to attach to: %s", a.whatThereIs(node))
	}
	return paths, nil
}

// standing are paths where relays stand, or will: what is there now is no matter.
func standing(targets []string) (paths []discover.Socket, err error) {
	for _, t := range targets {
		if err := absolute(&t); err != nil {
			return nil, err
		}
		paths = append(paths, discover.Socket{Path: t})
	}
	return paths, nil
}

func isPath(target string) bool {
	return strings.Contains(target, "/") && !strings.HasPrefix(target, "csi/")
}

// find is one target's sockets. That there are none is no error where several
// kinds were asked for.
func (a *attach) find(ctx context.Context, target string, node []discover.Socket) (found []discover.Socket, err error) {
	if isPath(target) {
		return a.named(ctx, target)
	}
	kind, driver, _ := strings.Cut(target, "/")
	for _, s := range node {
		switch {
		case s.Dead, s.Speaks == "ttrpc", s.Speaks == "unknown", s.Speaks == "":
		case kind == "all" && (s.Kind == discover.DevicePlugin || s.Kind == discover.Registration):
		case kind == "all",
			string(s.Kind) == kind && (driver == "" || s.Name == driver || filepath.Base(filepath.Dir(s.Path)) == driver):
			found = append(found, s)
		}
	}
	if len(found) == 0 && driver != "" {
		return nil, fmt.Errorf("there is no CSI driver %s: %s", driver, a.whatThereIs(node))
	}
	return found, nil
}

// named is a path that a person gave.
func (a *attach) named(ctx context.Context, path string) ([]discover.Socket, error) {
	var s discover.Socket
	real, err := takeover.Resolve(path)
	if err == nil {
		s, err = a.node.Inspect(ctx, real)
	}
	switch {
	case errors.Is(err, discover.ErrNotSocket):
		return nil, fmt.Errorf("%s is no socket; grpc-tap discover lists those of this node", path)
	case err != nil:
		var at *fs.PathError
		if errors.As(err, &at) && at.Path == path {
			err = at.Err
		}
		if !strings.HasPrefix(err.Error(), path) {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return nil, fmt.Errorf("%w; grpc-tap discover lists the sockets of this node", err)
	case !a.force && (s.Kind == discover.DevicePlugin || s.Kind == discover.Registration):
		return nil, fmt.Errorf("%s: the kubelet watches that directory and takes what appears there for a plugin; say --force if you mean it", path)
	}
	// As it was given, for that is what clients dial; it leads to s.Path.
	s.Path, err = filepath.Abs(path)
	return []discover.Socket{s}, err
}

// whatThereIs is for who asked for what there is not.
func (a *attach) whatThereIs(node []discover.Socket) string {
	var names []string
	for _, s := range node {
		name := s.Path
		if s.Kind == discover.CSI && s.Name != "" {
			name = "csi/" + s.Name
		}
		if s.Dead {
			name += " (nobody serves it)"
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "grpc-tap discover found no socket of a runtime or CSI driver; run it as root on the node, or give a socket's path"
	}
	return "there are " + strings.Join(names, ", ")
}

// unseen says which clients are connected past us.
func unseen(s discover.Socket, live bool) string {
	clients, err := discover.Clients(s.Path) // beside an error: those that were seen
	var names []string
	movable := false
	for _, c := range clients {
		names = append(names, called(c))
		movable = movable || s.Kind != discover.CSI && !proxy.Keeps(c.Exe)
	}
	switch all := strings.Join(names, ", "); {
	case len(names) > 0 && movable && live:
		return "connected already, and asked to dial anew as soon as that can't hurt: " + all
	case len(names) > 0 && movable:
		return "connected already, and not seen until they dial anew, as when they are restarted, or with --live-attach: " + all
	case len(names) > 0:
		return "connected already, and not seen until they dial anew, as when they are restarted: " + all
	case err != nil && os.Geteuid() != 0:
		return "who is connected already, and is not seen until it dials anew, can't be told; run as root"
	}
	return ""
}

// called is a process in a person's words.
func called(p discover.Process) string {
	return fmt.Sprintf("%s (pid %d)", filepath.Base(cmp.Or(p.Exe, "a process")), p.PID)
}
