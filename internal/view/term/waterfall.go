package term

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// A waterfall shows what a phase consisted of: a line for each thing that was
// done to each object, with all its tries in one bar on the phase's time, and
// under it what the last that failed had to say.
//
//	pod start shop/web  started after 47.2s  9 calls, 2 failed
//	  NodeStageVolume     pv-data           ×3  31.4s ░░░░░░░░░░░░░█
//	      INTERNAL: mount.nfs: Connection refused
//	  StartContainer      app                   120ms               █
const (
	methodsWidth = len("NodeUnpublishVolume")
	triesWidth   = len("x99")
	// widest is where more width would only draw the bars away from their names.
	widest = 140
)

// plain is for where block characters may not be shown.
var plain = strings.NewReplacer("█", "=", "░", "x", "×", "x", "µ", "u", "…", "~")

// Phases prints a waterfall of each, the oldest first.
func (t *Text) Phases(all []*call.Phase) {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b *call.Phase) int { return a.Begin.Compare(b.Begin) })
	for i, p := range all {
		if i > 0 {
			t.last("", none)
		}
		t.waterfall(p)
	}
	t.buf = t.out.writeFrom(t.buf, 1)
}

func (t *Text) waterfall(p *call.Phase) {
	t.paint(printable(p.Name())+"  ", none)
	t.paint(string(p.Outcome)+" after "+t.art(duration(p.Took())), outcomeColor(p))
	t.last(tally(p), none)

	room := min(t.width, widest) - len("  ") - methodsWidth - triesWidth - durationWidth - len("    ")
	subject := max(room*2/5, 8)
	scale := newScale(p, max(room-subject, 8))
	for _, r := range rowsOf(p) {
		t.buf = append(t.buf, "  "...)
		t.cell(t.art(cutEnd(printable(r.method), methodsWidth)), methodsWidth, none)
		t.cell(t.art(r.subject(subject)), subject, none)
		tries, took := r.sum()
		t.cell(t.art(padLeft(tries, triesWidth)), triesWidth, none)
		t.cell(t.art(padLeft(duration(took), durationWidth)), durationWidth, none)
		t.bar(scale.bar(r.calls))
		t.failure(r)
	}
	if n := p.Count - len(p.Calls); n > 0 {
		t.last("  ("+strconv.Itoa(n)+" calls in between are not shown)", dim)
	}
}

func outcomeColor(p *call.Phase) color {
	if p.Failed() {
		return red
	}
	return none
}

func tally(p *call.Phase) string {
	s := "  " + strconv.Itoa(p.Count) + " calls"
	if p.Count == 1 {
		s = "  1 call"
	}
	if p.Failures > 0 {
		s += ", " + strconv.Itoa(p.Failures) + " failed"
	}
	return s
}

// art is s as it may be shown.
func (t *Text) art(s string) string {
	if t.ascii {
		return plain.Replace(s)
	}
	return s
}

// tried is all that was done in one way to one object.
type tried struct {
	method, object string
	calls          []call.PhaseCall
}

// rowsOf are a phase's lines, in the order in which they began.
func rowsOf(p *call.Phase) []*tried {
	var rows []*tried
	for _, c := range p.Calls {
		i := slices.IndexFunc(rows, func(r *tried) bool { return r.method == c.Method && r.object == c.Subject })
		if i < 0 {
			i = len(rows)
			rows = append(rows, &tried{method: c.Method, object: c.Subject})
		}
		rows[i].calls = append(rows[i].calls, c)
	}
	for _, r := range rows {
		slices.SortStableFunc(r.calls, func(a, b call.PhaseCall) int { return a.Start.Compare(b.Start) })
	}
	slices.SortStableFunc(rows, func(a, b *tried) int { return a.calls[0].Start.Compare(b.calls[0].Start) })
	return rows
}

func (r *tried) subject(width int) string {
	if r.method == "PullImage" {
		return cutFront(printable(imageName(r.object)), width)
	}
	return cutMiddle(printable(r.object), width)
}

// sum is how often it was tried, where that was more than once, and how long all
// of it took.
func (r *tried) sum() (tries string, took time.Duration) {
	for _, c := range r.calls {
		took += c.Duration
	}
	if n := len(r.calls); n > 1 {
		tries = "×" + strconv.Itoa(n)
	}
	return tries, took
}

// failure is what the last try that failed had to say, whole.
func (t *Text) failure(r *tried) {
	for _, c := range slices.Backward(r.calls) {
		if !c.Failed {
			continue
		}
		code := c.Code
		if code == "" {
			code = "LOST"
		}
		t.last("      "+strings.TrimSuffix(printable(code+": "+c.Note), ": "), red)
		return
	}
}

// scale puts times on a bar's cells.
type scale struct {
	from  time.Time
	whole time.Duration
	cells int
}

func newScale(p *call.Phase, cells int) scale {
	end := p.End
	for _, c := range p.Calls {
		if e := c.Start.Add(c.Duration); e.After(end) {
			end = e
		}
	}
	return scale{p.Begin, max(end.Sub(p.Begin), 1), cells}
}

// bar draws calls: each is to be seen, be it ever so short.
func (s scale) bar(calls []call.PhaseCall) []rune {
	bar := []rune(strings.Repeat(" ", s.cells))
	for _, c := range calls {
		from := min(max(s.cell(c.Start), 0), s.cells-1)
		to := min(max(s.cell(c.Start.Add(c.Duration)), from+1), s.cells)
		for i := from; i < to; i++ {
			bar[i] = '█'
			if c.Failed {
				bar[i] = '░'
			}
		}
	}
	return []rune(strings.TrimRight(string(bar), " "))
}

func (s scale) cell(at time.Time) int {
	return int(float64(at.Sub(s.from)) / float64(s.whole) * float64(s.cells))
}

// bar writes one, what failed in its colour.
func (t *Text) bar(bar []rune) {
	for len(bar) > 0 {
		n := slices.IndexFunc(bar, func(r rune) bool { return r != bar[0] })
		if n < 0 {
			n = len(bar)
		}
		c := none
		if bar[0] == '░' {
			c = red
		}
		t.paint(t.art(string(bar[:n])), c)
		bar = bar[n:]
	}
	t.buf = append(t.buf, '\n')
}
