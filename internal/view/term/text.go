// Package term shows records as lines, Text for a person at a terminal and JSON
// for programs; and what a pod's start or stop consisted of as a waterfall.
//
// What goes to the terminal: one line a call, printed when it ends, its columns
// at the same place in every line; under it, indented, a status message that
// does not fit on it. No header: a line explains itself, wherever one scrolls
// to. A message is never cut, since it is what people come for; other cells are,
// with an ellipsis. Whatever came off the wire is printable before it is
// printed: a status message must not be able to drive somebody's terminal.
package term

import (
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// Options say how lines look.
type Options struct {
	Width    int            // of the terminal, in columns; 0: none is known, as for a pipe: 200
	Wide     bool           // -o wide: 200 columns at least, with pid, bytes, connection, stream, trace
	Color    bool           // ANSI colours
	ASCII    bool           // waterfalls without block characters, as for a file
	Location *time.Location // of the clock; nil: local time, and is the test seam
}

// Text writes records as lines. It is not for use by several goroutines.
type Text struct {
	out    output
	layout layout
	width  int
	color  bool
	ascii  bool
	where  *time.Location
	buf    []byte
}

// NewText returns a Text that writes to w whole records, many at once.
func NewText(w io.Writer, o Options) *Text {
	if o.Width <= 0 {
		o.Width = 200
	}
	if o.Location == nil {
		o.Location = time.Local
	}
	return &Text{out: output{w: w}, layout: newLayout(o.Width, o.Wide), width: o.Width, color: o.Color, ascii: o.ASCII, where: o.Location}
}

// Records prints them. After a failed write it prints nothing more; see Err.
func (t *Text) Records(all []*call.Record) {
	for _, r := range all {
		t.line(r)
		t.buf = t.out.writeFrom(t.buf, writeFrom)
	}
	t.buf = t.out.writeFrom(t.buf, 1)
}

// Err is the first error of a write: a reader such as head has gone, say.
func (t *Text) Err() error { return t.out.err }

// slow is from when on a duration is coloured.
const slow = time.Second

func (t *Text) line(r *call.Record) {
	l, d := &t.layout, r.Duration()
	code, message := outcome(r)
	if len(r.Details) > 0 {
		message = strings.TrimPrefix(message+"\ndetails: "+string(r.Details), "\n")
	}
	codeColor, timeColor := none, none
	if r.Failed() {
		codeColor = red
	}
	if d >= slow {
		timeColor = yellow
	}

	t.cell(r.Start.In(t.where).Format("15:04:05.000"), timeWidth, dim)
	t.cell(route(r, l.route, l.wide), l.route, none)
	t.cell(cutEnd(method(r), l.method), l.method, none)
	t.cell(subject(r).fit(l.subject), l.subject, none)
	t.cell(padLeft(duration(d), durationWidth), durationWidth, timeColor)

	short := cutEnd(code, l.code)
	if l.wide {
		t.cell(short, l.code, codeColor)
		t.cell("→"+size(r.RequestBytes)+" ←"+size(r.ResponseBytes), sizesWidth, none)
		t.cell("c"+strconv.FormatUint(r.Connection, 10)+"/"+strconv.FormatUint(uint64(r.Stream), 10), streamWidth, none)
		t.last(printable(r.TraceID), none)
		t.below(code, short, message)
		return
	}
	if one := printable(message); message != "" && short == code && !strings.Contains(message, "\n") && displayWidth(one) <= l.message {
		t.cell(short, l.code, codeColor)
		t.last(one, none)
		return
	}
	t.last(short, codeColor)
	t.below(code, short, message)
}

// below writes the message under its line, every line of it, with the code in
// front where its column was too narrow for it.
func (t *Text) below(code, short, message string) {
	if short != code {
		message = strings.TrimSuffix(code+": "+message, ": ")
	}
	message = strings.TrimRight(strings.ReplaceAll(message, "\r\n", "\n"), "\n")
	if message == "" {
		return
	}
	for line := range strings.SplitSeq(message, "\n") {
		if line = printable(strings.ReplaceAll(line, "\t", "    ")); line != "" {
			t.buf = append(append(t.buf, indent...), line...)
		}
		t.buf = append(t.buf, '\n')
	}
}

// indent puts a message clear of the column of times.
const indent = "             "

// cell writes s, coloured, and pads it and one space beyond to its column.
func (t *Text) cell(s string, width int, c color) {
	t.paint(s, c)
	for range max(width-displayWidth(s), 0) + 1 {
		t.buf = append(t.buf, ' ')
	}
}

// last writes a line's last cell.
func (t *Text) last(s string, c color) {
	t.paint(s, c)
	t.buf = append(t.buf, '\n')
}

type color string

const (
	none   color = ""
	dim    color = "\x1b[2m"
	red    color = "\x1b[31m"
	yellow color = "\x1b[33m"
)

func (t *Text) paint(s string, c color) {
	if !t.color || c == none || s == "" {
		t.buf = append(t.buf, s...)
		return
	}
	t.buf = append(append(append(t.buf, c...), s...), "\x1b[0m"...)
}

// outcome is what stands in the column of codes, and what is to be said on it.
func outcome(r *call.Record) (code, message string) {
	switch {
	case r.State == call.Lost && r.Message == "":
		return "LOST", "connection lost"
	case r.State == call.Lost:
		return "LOST", r.Message
	case r.State == call.Running:
		return "RUNNING", r.Message
	case r.Code == "":
		return "?", r.Message
	case r.Code == "OK" && r.ExitCode != nil && *r.ExitCode != 0:
		// A probe that failed: as a call it is OK.
		return "OK", "exit code " + strconv.Itoa(int(*r.ExitCode))
	default:
		return printable(r.Code), r.Message
	}
}

// method is the method's name; of a service that is neither CRI nor CSI, with
// the service's in front: "Echo/Say".
func method(r *call.Record) string {
	if strings.HasPrefix(r.Service, "runtime.v1.") || strings.HasPrefix(r.Service, "csi.v1.") || r.Service == "" {
		return printable(r.Method)
	}
	return printable(r.Service[strings.LastIndexByte(r.Service, '.')+1:] + "/" + r.Method)
}

// route is "kubelet→containerd", in width columns. Where both do not fit, the
// caller keeps half: half of the callers are called kubelet.
func route(r *call.Record, width int, pid bool) string {
	caller, server := "?", printable(r.Server.Name)
	if r.Caller.Exe != "" {
		caller = printable(path.Base(strings.TrimSuffix(r.Caller.Exe, " (deleted)")))
	}
	if pid && r.Caller.PID != 0 {
		caller += "[" + strconv.Itoa(r.Caller.PID) + "]"
	}
	if server == "" {
		server = printable(path.Base(r.Socket))
	}
	room := width - 1
	have := displayWidth(caller)
	keep := min(have, max(room-displayWidth(server), room/2))
	return cutEnd(caller, keep) + "→" + cutEnd(server, room-keep)
}
