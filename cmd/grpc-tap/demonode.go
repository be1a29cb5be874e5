package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// fakeNode are the demo's processes beside relay and tap. Each runs this binary
// under a name of its own, since that is what a caller is shown by.
type fakeNode struct {
	dir   string
	say   func(string)
	parts []*part
}

// part is one process. It ends when its stdin does, so also when we die.
type part struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner // what it says
	errs  *bytes.Buffer  // and on stderr, once it has ended
}

func (n *fakeNode) start(name string, args ...string) (*part, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the demo's %s: %w", name, err)
	}
	p, err := startPart(namesake(exe, filepath.Join(n.dir, name)), name, args)
	if errors.Is(err, fs.ErrPermission) { // the directory is mounted noexec
		p, err = startPart(exe, name, args)
	}
	if err != nil {
		return nil, fmt.Errorf("start the demo's %s: %w", name, err)
	}
	n.parts = append(n.parts, p)
	return p, nil
}

// namesake is the binary by another name: a link, or where the directory is on
// another file system, a copy. Where neither can be had, it is the binary.
func namesake(exe, path string) string {
	if os.Link(exe, path) == nil {
		return path
	}
	from, err := os.Open(exe)
	if err != nil {
		return exe
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return exe
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Close()); err != nil {
		return exe
	}
	return path
}

func startPart(path, name string, args []string) (*part, error) {
	cmd := exec.Command(path, append([]string{"demo-node", name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is the demo's to act on
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	errs := new(bytes.Buffer)
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &part{cmd: cmd, stdin: stdin, lines: bufio.NewScanner(stdout), errs: errs}, nil
}

// serve starts a server and waits until it serves.
func (n *fakeNode) serve(name, socket string) error {
	p, err := n.start(name, socket)
	if err != nil {
		return err
	}
	if !p.lines.Scan() || p.lines.Text() != "serving" {
		return fmt.Errorf("the demo's %s does not serve %s: %s", name, socket, p.lines.Text())
	}
	return nil
}

// kubelet runs the fake kubelet to the end of its scene, or of ctx.
func (n *fakeNode) kubelet(ctx context.Context, cri, csi string, once bool) error {
	p, err := n.start("kubelet", cri, csi, fmt.Sprint(once))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = p.stdin.Close() })()
	for p.lines.Scan() {
		n.say(p.lines.Text())
	}
	if err := p.cmd.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the demo's kubelet: %w: %s", err, bytes.TrimSpace(p.errs.Bytes()))
	}
	return nil
}

// stop ends what still runs and waits for it.
func (n *fakeNode) stop() {
	for _, p := range n.parts {
		_ = p.stdin.Close()
		kill := time.AfterFunc(goodbye, func() { _ = p.cmd.Process.Kill() })
		_ = p.cmd.Wait()
		kill.Stop()
	}
}

func newDemoNode() *cobra.Command {
	return &cobra.Command{
		Use:    "demo-node PART [ARG…]",
		Short:  "A process of demo's fake node; demo starts it",
		Hidden: true,
		Args:   cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			// Nothing real passes here, and the relay has to read our name, which
			// of a process without core dumps only root may.
			_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
			ctx, cancel := context.WithCancel(c.Context())
			defer cancel()
			go func() {
				_, _ = io.Copy(io.Discard, os.Stdin)
				cancel()
			}()
			switch part, socket := args[0], args[1]; {
			case part == "runtime":
				r := fakecri.NewRuntime()
				r.ScriptScene()
				return demoServe(ctx, r.Server, socket, c.OutOrStdout())
			case part == "csi-driver":
				d := fakecri.NewDriver()
				d.ScriptScene()
				return demoServe(ctx, d.Server, socket, c.OutOrStdout())
			case part == "kubelet" && len(args) == 4:
				return demoKubelet(ctx, socket, args[2], args[3] == "true", c.OutOrStdout())
			}
			return &usageError{c.CommandPath(), fmt.Errorf("demo-node is started by grpc-tap demo: there is no part %q", args)}
		},
	}
}

func demoServe(ctx context.Context, s *fakecri.Server, socket string, out io.Writer) error {
	if err := s.Start(socket); err != nil {
		fmt.Fprintln(out, err)
		return err
	}
	defer s.Stop()
	fmt.Fprintln(out, "serving")
	<-ctx.Done()
	return nil
}

// demoPoll is how often the demo's kubelet polls: seldom, so that the story is
// not lost among its lines.
const demoPoll = 5 * time.Second

func demoKubelet(ctx context.Context, cri, csi string, once bool, out io.Writer) error {
	var mu sync.Mutex
	say := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(out, line)
	}
	k, err := fakecri.NewKubelet(cri, fakecri.WithCSI(fakecri.DefaultDriver, csi))
	if err != nil {
		return err
	}
	defer k.Close()
	ctx, cancel := context.WithCancel(ctx)
	var polling sync.WaitGroup
	defer polling.Wait()
	defer cancel()
	if err := k.Greet(ctx, fakecri.DefaultDriver); err != nil {
		return err
	}
	polling.Go(func() { k.PollUntil(ctx, demoPoll, say) })
	for round := 0; ; round++ {
		if err := k.PlayScene(ctx, fakecri.DefaultDriver, round, say); ctx.Err() != nil {
			return nil
		} else if err != nil || once {
			return err
		}
	}
}
