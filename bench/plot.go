package main

import (
	"fmt"
	"strings"
)

// panel is one bar chart of the plot.
type panel struct {
	title string
	bars  []bar
}

type bar struct {
	way   string
	value float64
	label string
}

// plot draws what matters most as SVG: added latency, calls per second, a long list.
func (r *results) plot() string {
	one, many, bigOne := loads[0], loads[1], loads[len(loads)-1]
	panels := []panel{
		{title: "empty call, one at a time: p50 added to direct"},
		{title: "empty calls per second, 16 at a time"},
		{title: "16 MiB list: p50"},
	}
	for _, w := range r.ways {
		if w != viaDirect {
			added := r.across(one, func(by map[string]*turn) float64 { return p50(by[w]) - p50(by[viaDirect]) }).Median
			panels[0].bars = append(panels[0].bars, bar{w, added, duration(added)})
		}
		rate, long := r.of(many, w, perSecond), r.of(bigOne, w, p50)
		panels[1].bars = append(panels[1].bars, bar{w, rate, fmt.Sprintf("%.0f", rate)})
		panels[2].bars = append(panels[2].bars, bar{w, long, duration(long)})
	}
	return draw(panels)
}

const (
	plotWidth = 720
	barLeft   = 130
	barWidth  = 480 // of the longest
	barHeight = 18
	barStep   = 24
)

func draw(panels []panel) string {
	var b strings.Builder
	y := 8
	for _, p := range panels {
		y += 24
		fmt.Fprintf(&b, `<text x="10" y="%d" class="title">%s</text>`+"\n", y, p.title)
		y += 10
		longest := 0.0
		for _, bar := range p.bars {
			longest = max(longest, bar.value)
		}
		for _, bar := range p.bars {
			class := "other"
			if bar.way == viaTap {
				class = "tap"
			}
			w := int(barWidth * max(0, bar.value) / max(longest, 1))
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, barLeft-8, y+13, bar.way)
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" class="%s"/>`, barLeft, y, w, barHeight, class)
			fmt.Fprintf(&b, `<text x="%d" y="%d">%s</text>`+"\n", barLeft+w+6, y+13, bar.label)
			y += barStep
		}
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">
<style>text{font:12px sans-serif;fill:#222}.title{font-weight:bold}.other{fill:#9aa5b1}.tap{fill:#2f6fde}</style>
<rect width="100%%" height="100%%" fill="#fff"/>
%s</svg>
`, plotWidth, y+8, plotWidth, y+8, b.String())
}
