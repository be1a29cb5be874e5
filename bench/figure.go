package main

import (
	"cmp"
	"slices"
	"time"
)

// median is the middle of what a figure is in each round.
func median[T cmp.Ordered](all []T) T {
	s := slices.Sorted(slices.Values(all))
	return s[len(s)/2]
}

// figure is a number that a turn has.
type figure func(*turn) float64

func p50(t *turn) float64       { return float64(t.p50) / float64(time.Microsecond) }
func perSecond(t *turn) float64 { return t.perSecond() }
func behind(t *turn) float64    { return float64(t.behind) / float64(time.Millisecond) }

// of is a figure's median for a way under a load.
func (r *results) of(l load, way string, f figure) float64 {
	var all []float64
	for _, t := range r.turns[l.name()][way] {
		all = append(all, f(t))
	}
	return median(all)
}

// ratio is a figure that compares ways, made of turns of the same round.
type ratio struct{ Median, Quarter, ThreeQuarters float64 }

// across makes a ratio of what f makes of each round's turns, by way.
func (r *results) across(l load, f func(by map[string]*turn) float64) ratio {
	var all []float64
	for round := range r.turns[l.name()][viaDirect] {
		by := map[string]*turn{}
		for way, turns := range r.turns[l.name()] {
			by[way] = turns[round]
		}
		all = append(all, f(by))
	}
	slices.Sort(all)
	return ratio{median(all), all[len(all)/4], all[len(all)*3/4]}
}

// cpu is a process's processor time per call in microseconds, over all rounds: /proc counts in steps of 10 ms, which single turns
// are too short for.
func (r *results) cpu(l load, way, process string) float64 {
	var spent time.Duration
	var calls int64
	for _, t := range r.turns[l.name()][way] {
		spent += t.cpu[process]
		calls += t.calls
	}
	return float64(spent) / float64(time.Microsecond) / float64(max(1, calls))
}
