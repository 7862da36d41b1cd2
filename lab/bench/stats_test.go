package main

import (
	"testing"

	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/bench/report"
)

func TestRatiosArePairedByRound(t *testing.T) {
	t.Parallel()
	// Both subjects halve in the second round: the machine was busy, the ratio is the same.
	got := report.SpreadOf(ratios([]load.Sample{{Rate: 80}, {Rate: 40}}, []load.Sample{{Rate: 100}, {Rate: 50}}))
	if got != (report.Spread{Median: 0.8, Min: 0.8, Max: 0.8}) {
		t.Errorf("got %v", got)
	}
}
