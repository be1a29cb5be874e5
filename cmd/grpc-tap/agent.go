package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/grpc-tap/grpc-tap/internal/config"
	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/internal/host"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

func newAgent() *cobra.Command {
	var file string
	var schema bool
	c := &cobra.Command{
		Use:   "agent [--config FILE]",
		Short: "Watch all of a node, for good: the DaemonSet's process",
		Long: `agent finds the runtime's socket and those of CSI drivers, as they come and go, has a
relay stand on each (grpc-tap relay --mirror), and is their tap. The relays run on the
node itself, outside of the agent's container: the agent may be upgraded, killed or
deleted, and no call notices. Where no agent comes back within --orphan-timeout, each
relay gives its path back and leaves nothing.

A setting is a flag, or a line in --config, a YAML file; a flag wins. The file's keys
are the flags' names in one word: orphanTimeout: 10m. When the file changes it is read
again; one with a mistake is not taken, and said.

In a container it needs the host's pid namespace (hostPID), the capabilities that
deploy/daemonset gives it, and the node's /run and the kubelet's directory at their own
paths.`,
		Example: `  grpc-tap agent --config /etc/grpc-tap/config.yaml
  grpc-tap agent --otlp-endpoint collector.observability:4317 --deny 'smb*'`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if schema {
				_, err := c.OutOrStdout().Write(agentSchema())
				return err
			}
			w := &watcher{file: file, given: c.Flags(), stdout: c.OutOrStdout(), stderr: c.ErrOrStderr()}
			a, err := w.load()
			if err != nil {
				return &usageError{c.CommandPath(), err}
			}
			return w.run(c.Context(), a)
		},
	}
	var a agent
	c.Flags().AddFlagSet(a.flags())
	c.Flags().StringVar(&file, "config", "", "read settings from this YAML `FILE`, and again when it changes")
	c.Flags().BoolVar(&schema, "print-schema", false, "print the JSON schema of the file of settings, and end")
	return c
}

func agentSchema() []byte {
	var a agent
	return config.Schema(a.flags(), "grpc-tap agent")
}

// agent is what an agent is told.
type agent struct {
	show    showFlags
	node    discover.Config
	machine host.Machine
	allow   []string
	deny    []string
	runtime string
	live    bool
	again   time.Duration // how long after those that could not be moved are asked again
	most    int           // drivers' sockets that are tapped
	bare    bool          // relays without guards
	orphan  time.Duration
	drain   time.Duration
	state   string
}

// flags makes the flags that are settings too.
func (a *agent) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("agent", pflag.ContinueOnError)
	f.StringVar(&a.runtime, "runtime", auto, "tap the container runtime's socket: auto (in the well-known places), none, or its `PATH`")
	f.StringSliceVar(&a.allow, "allow", []string{"*"}, "tap CSI drivers whose name or directory matches one of these `GLOBS`")
	f.StringSliceVar(&a.deny, "deny", nil, "do not tap CSI drivers whose name or directory matches one of these `GLOBS`")
	f.BoolVar(&a.live, "live-attach", false, "have clients that are connected already dial anew, at a moment when that can't hurt; else the kubelet is seen from its next start on")
	f.BoolVar(&a.bare, "unguarded", false, "do without the processes that give the paths back if a relay is killed")
	f.DurationVar(&a.orphan, "orphan-timeout", 10*time.Minute, "relays give their paths back if no agent reads for this long (0: never, so that they outlast the uninstall)")
	f.DurationVar(&a.drain, "drain", 0, "cut off connections that remain this long after a path was given back (0: let them end by themselves)")
	kubeletFlag(f, &a.node)
	f.StringVar(&a.state, "state-dir", takeover.StateDir, "`DIR` of the kill switch, the relays' sockets, and what pods' traces need across a restart")
	f.StringVar(&a.machine.Dir, "host-dir", "/var/lib/grpc-tap", "`DIR` on the node where relays are started from; not on a file system mounted noexec")
	f.IntVar(&a.machine.PID, "host-pid", 1, "a process of the node's")
	f.DurationVar(&a.again, "live-again", 10*time.Minute, "with --live-attach: ask those again after this long for whom there was no moment")
	f.IntVar(&a.most, "max-drivers", maxDrivers, "tap no more drivers' sockets than so many")
	for _, name := range []string{"host-pid", "live-again", "max-drivers"} {
		_ = f.MarkHidden(name) // for tests; it fails for no flag of ours
	}
	a.show.add(f)
	f.Lookup("output").DefValue = "none"
	a.show.format = "none"
	return f
}

// maxDrivers is more than a node has. What a pod may write in its plugin's directory
// would else decide how many relays there are, and guards, which the OOM killer passes
// over.
const maxDrivers = 64

// auto: sockets in well-known places. none: none.
const auto, none = "auto", "none"

func (a *agent) check() error {
	if a.runtime != auto && a.runtime != none && !path.IsAbs(a.runtime) {
		return fmt.Errorf("runtime %s: give auto, none, or the path of a socket", a.runtime)
	}
	for _, dir := range []struct{ flag, path string }{{"state-dir", a.state}, {"host-dir", a.machine.Dir}, {"kubelet-dir", cmp.Or(a.node.KubeletDir, "/")}} {
		if !path.IsAbs(dir.path) {
			return fmt.Errorf("%s %s: give a path that begins with /", dir.flag, dir.path)
		}
	}
	for _, globs := range [][]string{a.allow, a.deny} {
		for _, g := range globs {
			if _, err := path.Match(g, ""); err != nil {
				return fmt.Errorf("allow, deny: %q is no pattern: %w", g, err)
			}
		}
	}
	if a.orphan < 0 || a.drain < 0 {
		return errors.New("orphan-timeout and drain take no negative durations")
	}
	a.machine.LogDir = path.Join(a.state, "log")
	a.show.remember = path.Join(a.state, "pods")
	return a.show.check()
}

// wants: a driver of these names is to be tapped.
func (a *agent) wants(names ...string) bool {
	matches := func(globs []string) bool {
		return slices.ContainsFunc(globs, func(g string) bool {
			return slices.ContainsFunc(names, func(n string) bool {
				ok, _ := path.Match(g, n)
				return ok && n != ""
			})
		})
	}
	return matches(a.allow) && !matches(a.deny)
}

// door is where taps come to the relay of a path.
func (a *agent) door(socket string) string {
	return path.Join(a.state, "mirror", unitName(socket)+".sock")
}

// reason is where the relay of a path says why it ended.
func (a *agent) reason(socket string) string {
	return path.Join(a.machine.LogDir, unitName(socket)+".why")
}

// unitName is a path in a file's or unit's name. It is short: a socket's path has a
// bound. Directories are called as those like who make them.
func unitName(socket string) string {
	plain := func(r rune) rune {
		if strings.ContainsRune("-._", r) || r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '_'
	}
	return strings.Map(plain, path.Base(path.Dir(socket))) + "-" + digest(socket)
}

// digest tells texts apart, in few letters.
func digest(texts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	return hex.EncodeToString(sum[:4])
}
