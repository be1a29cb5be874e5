package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"text/template"
	"time"
)

//go:embed benchmarks.md.tmpl
var page string

// write writes benchmarks.md and its plot.
func (r *results) write(dir string) error {
	t, err := template.New("benchmarks.md").Funcs(template.FuncMap{"mib": mib, "percent": percent}).Parse(page)
	if err != nil {
		return err
	}
	var md bytes.Buffer
	if err := t.Execute(&md, map[string]any{
		"Machine": r.machine, "Rounds": len(r.turns[loads[0].name()][viaDirect]), "Took": r.took.Round(time.Second),
		"Account": r.account, "Relay": r.relay, "Tap": r.tap, "Flood": r.flood, "FloodRounds": floodRounds,
		"Node": r.node, "Share": 100 * float64(r.node.CPU) / float64(r.node.Lasted), "Targets": r.targets(),
		"Times": r.times(), "Processors": r.processors(),
	}); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "benchmarks.md"), md.Bytes(), 0o644),
		os.WriteFile(filepath.Join(dir, "benchmarks.svg"), []byte(r.plot()), 0o644))
}

func percent(part, whole int64) string {
	return fmt.Sprintf("%.2f %%", 100*float64(part)/float64(max(1, whole)))
}

// measured are the loads, and the ways that each was played by.
func (r *results) measured() iter.Seq2[load, string] {
	return func(yield func(load, string) bool) {
		for _, l := range append(slices.Clone(loads), flooding) {
			for _, w := range r.ways {
				if r.turns[l.name()][w] != nil && !yield(l, w) {
					return
				}
			}
		}
	}
}

// times are the rows of calls as the client saw them.
func (r *results) times() []string {
	var rows []string
	for l, w := range r.measured() {
		ofRelay := r.across(l, func(by map[string]*turn) float64 { return perSecond(by[w]) / perSecond(by[viaRelay]) })
		lag := "–"
		if w == viaTap {
			lag = fmt.Sprintf("%.0f ms", r.of(l, w, behind))
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %.0f | %.2f × | %s |",
			l.name(), w, duration(r.of(l, w, p50)), r.of(l, w, perSecond), ofRelay.Median, lag))
	}
	return rows
}

// processors are the rows of processor time a call.
func (r *results) processors() []string {
	var rows []string
	for l, w := range r.measured() {
		row := fmt.Sprintf("| %s | %s | %s | %s |", l.name(), w, duration(r.cpu(l, w, "client")), duration(r.cpu(l, w, "runtime")))
		between := map[string][]string{viaDirect: {}, viaRelay: {"relay"}, viaGRPC: {"grpc-go"}, viaSocat: {"socat"}, viaTap: {"relay", "tap"}}[w]
		for i := range 2 {
			if i < len(between) {
				row += " " + duration(r.cpu(l, w, between[i])) + " |"
			} else {
				row += " – |"
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// duration is microseconds as a person reads them.
func duration(us float64) string {
	if us < 1000 {
		return fmt.Sprintf("%.0f µs", us)
	}
	return fmt.Sprintf("%.1f ms", us/1000)
}
