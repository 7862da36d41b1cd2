package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Spread summarizes the rounds of one figure.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// SpreadOf returns the zero spread for no values.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1]}
}

// Count formats a spread of large numbers with spaces between thousands.
func (s Spread) Count() string {
	if s.Median == 0 {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", Thousands(s.Median), Thousands(s.Min), Thousands(s.Max))
}

// Decimals formats a spread of small numbers.
func (s Spread) Decimals() string {
	if s.Median == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Min, s.Max)
}

// Fine formats only the median, to two decimals.
func (s Spread) Fine() string {
	if s.Median == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", s.Median)
}

// Whole formats only the median, as an integer.
func (s Spread) Whole() string { return fmt.Sprintf("%.0f", s.Median) }

// Against appends the goal, and whether the median reaches it. Without a goal it formats only the spread.
func (s Spread) Against(goal float64) string {
	if goal == 0 || s.Median == 0 {
		return s.Decimals()
	}
	verdict := "reached"
	if s.Median < goal {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%s, goal %.2f %s", s.Decimals(), goal, verdict)
}

// Thousands formats a number with three significant digits, since the rest is noise.
func Thousands(v float64) string {
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

// Mebibytes formats a number of bytes.
func Mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
