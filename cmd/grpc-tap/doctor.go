package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grpc-tap/grpc-tap/internal/discover"
)

func newDoctor() *cobra.Command {
	var d doctor
	var format string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say whether this node can be tapped, what is in the way, and how to mend it",
		Long: `doctor looks at everything that a takeover depends on: rights, the kernel, the
sockets and their directories, SELinux and AppArmor, the kill switch, relays that
died, what an earlier grpc-tap has left. It changes nothing, except with --reset.

Lines begin with ok, note (good to know), WARN (works, with the loss that is
said) or FAIL (in the way of grpc-tap attach). The exit code is 1 if there is
a FAIL. As anybody but root it says less, and what it could not tell.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if format != "text" && format != "json" {
				return &usageError{c.CommandPath(), fmt.Errorf("-o %s: there is no such format; give text or json", format)}
			}
			found := d.examine(c.Context())
			if c.Context().Err() != nil {
				return errors.New("doctor was interrupted before it had seen all")
			}
			write := writeText
			if format == "json" {
				write = writeJSON
			}
			if err := printed(write(c.OutOrStdout(), found)); err != nil {
				return err
			}
			if count(found, failed) > 0 {
				return errSaid
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&d.reset, "reset", false, "forget the relays that died, so that takeovers are allowed again")
	kubeletFlag(f, &d.node)
	stateFlag(f, &d.stateDir)
	f.StringVarP(&format, "output", "o", "text", "how to print: text, or json (a finding a line)")
	return c
}

// doctor is what to look at. Facts are gathered by one half of its functions,
// and judged by the other, which look at nothing else.
type doctor struct {
	node     discover.Config
	stateDir string
	reset    bool
	// tryGuard starts a guard for a server; nil: takeover.TryGuard. Tests have
	// no binary to start one from.
	tryGuard func(path string, server int) error
}

// level is how much a finding matters.
type level uint8

const (
	fine   level = iota
	noted        // good to know
	warned       // a takeover works, and something is lost
	failed       // it is in the way
)

func (l level) String() string { return [...]string{"ok", "note", "WARN", "FAIL"}[l] }

// say makes a finding of what is so, why it matters, and what to do.
func (l level) say(format string, args ...any) finding {
	return finding{l, fmt.Sprintf(format, args...)}
}

// finding is one line.
type finding struct {
	level level
	text  string
}

// section is what was found about one thing.
type section struct {
	about    string // a socket's path, or a subject
	more     string // about it, for a person
	findings []finding
}

// examine is all checks, in the order in which a person would want to mend
// what they find.
func (d *doctor) examine(ctx context.Context) []section {
	state := d.gatherState() // a --reset is done by it, first of all
	m := gatherMachine()
	n := d.gatherNode(ctx)
	all := []section{{about: "this process and kernel", findings: m.findings()}}
	for _, s := range n.sockets {
		all = append(all, section{s.Path, s.who(), s.findings(m)})
	}
	for _, s := range []section{
		{about: "sockets", findings: n.findings()},
		{about: "guard", more: "it gives a path back if the relay dies", findings: guardFindings(n.sockets, m)},
		{about: "switches and leftovers", findings: state.findings(n)},
	} {
		if len(s.findings) > 0 {
			all = append(all, s)
		}
	}
	return all
}

func count(all []section, l level) (n int) {
	for _, s := range all {
		for _, f := range s.findings {
			if f.level == l {
				n++
			}
		}
	}
	return n
}

// writeText ends with what it comes to.
func writeText(w io.Writer, all []section) error {
	var b strings.Builder
	for _, s := range all {
		title := s.about
		if s.more != "" {
			title += ": " + s.more
		}
		fmt.Fprintln(&b, shown(title))
		for _, f := range s.findings {
			fmt.Fprintf(&b, "  %-4s  %s\n", f.level, shown(oneLine(f.text)))
		}
	}
	b.WriteString(verdict(all) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func verdict(all []section) string {
	way := "nothing is in the way of grpc-tap attach"
	switch n := count(all, failed); n {
	case 0:
	case 1:
		way = "1 thing is in the way of grpc-tap attach"
	default:
		way = fmt.Sprintf("%d things are in the way of grpc-tap attach", n)
	}
	if n := count(all, warned); n > 0 {
		way += ", " + plural(uint64(n), "warning")
	}
	return way
}

// oneLine joins an error that consists of several.
func oneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") }

func writeJSON(w io.Writer, all []section) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	for _, s := range all {
		for _, f := range s.findings {
			err := out.Encode(struct {
				Level string `json:"level"`
				About string `json:"about"`
				Text  string `json:"text"`
			}{strings.ToLower(f.level.String()), s.about, oneLine(f.text)})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
