package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

func newDiscover() *cobra.Command {
	var node discover.Config
	var format string
	c := &cobra.Command{
		Use:   "discover [-o text|json] [--kubelet-dir DIR]",
		Short: "List this node's gRPC sockets: what they speak, who serves them, whether they are tapped",
		Long: `discover looks where container runtimes and the kubelet's plugins keep their
sockets. It connects to each once, greets it as HTTP/2, and asks runtimes and
storage drivers for their name and version; nothing else is called, and nothing
is changed. Sockets that speak ttrpc are not connected to.

SERVER is who holds the listening socket. "made by" means that this could not
be seen, and only who made it is known: that process may have ended since.
A dead socket is a file that nobody listens at.`,
		Example: `  grpc-tap discover

  # the path of the runtime's socket
  grpc-tap discover -o json | jq -r 'select(.kind == "cri" and .speaks == "CRI v1") | .path'`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if format != "text" && format != "json" {
				return &usageError{c.CommandPath(), fmt.Errorf("-o %s: there is no such format; give text or json", format)}
			}
			return runDiscover(c.Context(), node, format, takenBy, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "how to print sockets: text, or json (an object a line)")
	kubeletFlag(c.Flags(), &node)
	return c
}

// kubeletFlag is a flag that several commands have.
func kubeletFlag(f *pflag.FlagSet, node *discover.Config) {
	f.StringVar(&node.KubeletDir, "kubelet-dir", "", "the kubelet's `DIR`, its --root-dir (default /var/lib/kubelet, and where k0s and microk8s have it)")
}

func runDiscover(ctx context.Context, node discover.Config, format string, taken func(path string) (by, server string), stdout, stderr io.Writer) error {
	if dir := node.KubeletDir; dir != "" {
		if fi, err := os.Stat(filepath.Join(node.Root, dir)); err != nil || !fi.IsDir() {
			return fmt.Errorf("--kubelet-dir %s: there is no such directory that can be read; give what the kubelet's --root-dir says", dir)
		}
	}
	sockets, err := node.Sockets(ctx)
	if ctx.Err() != nil {
		return fmt.Errorf("discover: %w", err)
	}
	say := func(format string, args ...any) { fmt.Fprintf(stderr, "grpc-tap: "+format+"\n", args...) }
	defer func() { // after the table
		for _, s := range sockets {
			for _, err := range each(s.Err) {
				say("%s: %s", shown(s.Path), shown(err.Error()))
			}
		}
		for _, err := range each(err) {
			say("could not look everywhere: %v", err)
		}
		if os.Geteuid() != 0 {
			say("not run as root: sockets and processes of others may be missing")
		}
	}()
	if len(sockets) == 0 {
		say("there are no gRPC sockets at\n    %s", strings.Join(node.Places(), "\n    "))
		say("if this is a node, give the kubelet's directory by --kubelet-dir; in a container, mount /run and /var/lib/kubelet of the node at the same paths")
		return nil
	}
	taps := map[string]string{}
	for i, s := range sockets {
		by, server := taken(s.Path)
		if by == "" {
			continue
		}
		taps[s.Path] = by
		if behind, err := node.Inspect(ctx, server); err == nil {
			sockets[i].Servers = behind.Servers
		}
	}
	if format == "json" {
		return printed(writeSocketsJSON(stdout, sockets, taps))
	}
	return printed(writeSockets(stdout, sockets, taps))
}

// takenBy says who has taken a path over, "" for nobody, and where its server's
// own socket lies meanwhile.
func takenBy(path string) (by, server string) {
	st, err := takeover.Read(path)
	switch {
	case err != nil || !st.Taken:
		return "", ""
	case st.By == 0:
		return "by a relay that was killed: grpc-tap restore", st.Server
	case st.By == 1:
		return "by another process", st.Server
	}
	return fmt.Sprintf("by pid %d", st.By), st.Server
}

// each takes joined errors apart: one a line.
func each(err error) []error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return all.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// printed is the error of a write, unless a reader such as head has had enough.
func printed(err error) error {
	if err == nil || errors.Is(err, unix.EPIPE) {
		return nil
	}
	return fmt.Errorf("write to stdout: %w", err)
}

func writeSockets(w io.Writer, sockets []discover.Socket, taps map[string]string) error {
	rows := [][]string{{"PATH", "SPEAKS", "SERVER", "TAPPED"}}
	for _, s := range sockets {
		rows = append(rows, []string{shown(s.Path), shown(speaks(s)), shown(servers(s)), shown(cmp.Or(taps[s.Path], "no"))})
	}
	terminalWidth, _ := terminal(w)
	_, err := io.WriteString(w, table(rows, terminalWidth))
	return err
}

// table aligns columns. On a terminal, a first cell that would push its row over
// the edge has a line to itself, and widens no other row; elsewhere (width 0) a
// row is a line, for grep and awk.
func table(rows [][]string, width int) string {
	const gap = 3
	widths := make([]int, len(rows[0]))
	room := width
	for i := len(widths) - 1; i >= 0; i-- {
		for r, row := range rows {
			if n := utf8.RuneCountInString(row[i]); r == 0 || i > 0 || width == 0 || n <= room {
				widths[i] = max(widths[i], n)
			}
		}
		room -= widths[i] + gap
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			b.WriteString(cell)
			switch n := utf8.RuneCountInString(cell); {
			case i == len(row)-1:
				b.WriteByte('\n')
			case n > widths[i]:
				b.WriteString("\n" + strings.Repeat(" ", widths[i]+gap))
			default:
				b.WriteString(strings.Repeat(" ", widths[i]-n+gap))
			}
		}
	}
	return b.String()
}

func speaks(s discover.Socket) string {
	switch {
	case s.Dead:
		return "nothing (dead)"
	case s.Speaks == "":
		return "no answer"
	}
	return strings.Join(strings.Fields(s.Speaks+" "+s.Name+" "+s.Version), " ")
}

func servers(s discover.Socket) string {
	var all []string
	for _, p := range s.Servers {
		who := fmt.Sprintf("pid %d", p.PID)
		if p.Exe != "" {
			who = fmt.Sprintf("%s (%s)", filepath.Base(p.Exe), who)
		}
		if p.Creator {
			who = "made by " + who
		}
		all = append(all, who)
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, ", ")
}

// shown makes what others named fit for a terminal.
func shown(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) }) < 0 {
		return s
	}
	quoted := strconv.QuoteToGraphic(s)
	return quoted[1 : len(quoted)-1]
}

// socketJSON is a line of -o json. Keys are absent where unknown.
type socketJSON struct {
	Path    string        `json:"path"`
	Kind    discover.Kind `json:"kind"`
	Speaks  string        `json:"speaks,omitempty"`
	Name    string        `json:"name,omitempty"`
	Version string        `json:"version,omitempty"`
	Servers []processJSON `json:"servers,omitempty"`
	Dead    bool          `json:"dead,omitempty"`
	Tapped  string        `json:"tapped,omitempty"`
	Error   string        `json:"error,omitempty"`
}

type processJSON struct {
	PID     int    `json:"pid"`
	Exe     string `json:"exe,omitempty"`
	Creator bool   `json:"creator,omitempty"` // it made the socket; who holds it is not known
}

func writeSocketsJSON(w io.Writer, sockets []discover.Socket, taps map[string]string) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	for _, s := range sockets {
		line := socketJSON{
			Path: s.Path, Kind: s.Kind, Speaks: s.Speaks, Name: s.Name, Version: s.Version,
			Dead: s.Dead, Tapped: taps[s.Path],
		}
		for _, p := range s.Servers {
			line.Servers = append(line.Servers, processJSON(p))
		}
		if s.Err != nil {
			line.Error = s.Err.Error()
		}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return nil
}
