package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/posta-tasks/posta/bench/load"
)

// spread sums up the rounds of one figure.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf returns the zero spread for no values.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1]}
}

// pick takes one figure out of each sample.
func pick(samples []load.Sample, figure func(load.Sample) float64) []float64 {
	out := make([]float64, len(samples))
	for i, s := range samples {
		out[i] = figure(s)
	}
	return out
}

func rates(samples []load.Sample) []float64 {
	return pick(samples, func(s load.Sample) float64 { return s.Rate })
}

// ratios divides round by round: what disturbed both halves of a round cancels out.
func ratios(over, under []load.Sample) []float64 {
	out := make([]float64, 0, len(over))
	for i := range min(len(over), len(under)) {
		out = append(out, over[i].Rate/under[i].Rate)
	}
	return out
}

// count renders a spread of large numbers with blanks between thousands.
func (s spread) count() string {
	if s.Median == 0 {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", thousands(s.Median), thousands(s.Min), thousands(s.Max))
}

// decimals renders a spread of small numbers.
func (s spread) decimals() string {
	if s.Median == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Min, s.Max)
}

// fine renders the median alone, to two decimals.
func (s spread) fine() string {
	if s.Median == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", s.Median)
}

// whole renders the median alone, as a whole number.
func (s spread) whole() string { return fmt.Sprintf("%.0f", s.Median) }

// against adds the goal, and whether the median reaches it. No goal: the spread alone.
func (s spread) against(goal float64) string {
	if goal == 0 || s.Median == 0 {
		return s.decimals()
	}
	verdict := "reached"
	if s.Median < goal {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%s, goal %.2f %s", s.decimals(), goal, verdict)
}

// thousands renders a number to three significant digits, since the rest is noise.
func thousands(v float64) string {
	step := math.Pow10(max(0, int(math.Log10(max(v, 1)))-2))
	v = math.Round(v/step) * step
	digits := fmt.Sprintf("%.0f", v)
	var out strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(' ')
		}
		out.WriteRune(d)
	}
	return out.String()
}
