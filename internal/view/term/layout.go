package term

import (
	"math"
	"strconv"
	"time"
)

// Columns whose width is the same in every layout.
const (
	timeWidth     = len("15:04:05.000")
	durationWidth = len("12.3ms")
	sizesWidth    = 13 // "→999kB ←999kB", whose arrows are one column each
	streamWidth   = len("c12/1000001")
)

// layout is the width of each column. It depends on the terminal's width
// alone, never on a record: columns that move from line to line cannot be read
// down.
type layout struct {
	wide                         bool
	route, method, subject, code int
	message                      int // what is left at the end of the line
}

// stops are layouts made for a terminal each: of 80 columns, where everything
// is there in short; of 120, where usual pods, methods and all codes are whole;
// and of 143, beyond which only messages are given more. Terminals in between
// get a layout in between.
var stops = [...]layout{
	{route: 15, method: 17, subject: 16, code: 9},
	{route: 22, method: 24, subject: 32, code: 19}, // kubelet→nfs.csi.k8s.io, UpdateContainerResources, FAILED_PRECONDITION
	{route: 30, method: 25, subject: 46, code: 19},
}

var allWide = layout{wide: true, route: 31, method: 24, subject: 38, code: 19}

func newLayout(width int, wide bool) layout {
	if wide {
		return allWide
	}
	l := stops[0]
	for i := range stops[1:] {
		if width > stops[i].columns() {
			l = between(stops[i], stops[i+1], width)
		}
	}
	l.message = width - l.columns() - 1
	return l
}

// between is the layout of a terminal that is wider than a, and perhaps than b.
func between(a, b layout, width int) layout {
	all := b.columns() - a.columns()
	extra := min(width-a.columns(), all)
	share := func(a, b int) int { return a + (b-a)*extra/all }
	return layout{
		route:   share(a.route, b.route),
		method:  share(a.method, b.method),
		subject: share(a.subject, b.subject),
		code:    share(a.code, b.code),
	}
}

// columns is the width of a line up to the end of its code.
func (l layout) columns() int {
	return timeWidth + 1 + l.route + 1 + l.method + 1 + l.subject + 1 + durationWidth + 1 + l.code
}

// duration prints d in at most six columns: 850µs, 1.23ms, 12.3ms, 123ms,
// 1.23s, 2m0s, 1h5m.
func duration(d time.Duration) string {
	switch us := float64(max(d, 0)) / 1e3; {
	case us < 999.5:
		return strconv.FormatFloat(us, 'f', 0, 64) + "µs"
	case us < 999.5e3:
		return digits(us/1e3) + "ms"
	case us < 59.95e6:
		return digits(us/1e6) + "s"
	}
	s := int64(math.Round(d.Seconds()))
	switch {
	case s < 3600:
		return strconv.FormatInt(s/60, 10) + "m" + strconv.FormatInt(s%60, 10) + "s"
	case s < 100*3600:
		return strconv.FormatInt(s/3600, 10) + "h" + strconv.FormatInt(s%3600/60, 10) + "m"
	default:
		return strconv.FormatInt(s/3600, 10) + "h"
	}
}

// size prints n in at most five columns: 812B, 1.2kB, 165kB, 16MB.
func size(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + "B"
	}
	v := float64(n)
	for _, unit := range []string{"kB", "MB", "GB"} {
		v /= 1000
		switch {
		case v < 9.95:
			return strconv.FormatFloat(v, 'f', 1, 64) + unit
		case v < 999.5:
			return strconv.FormatFloat(v, 'f', 0, 64) + unit
		}
	}
	return strconv.FormatFloat(v/1000, 'f', 0, 64) + "TB"
}

// digits prints v, which is below 999.5, with three digits.
func digits(v float64) string {
	switch {
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
}
