package main

import (
	"testing"

	"github.com/posta-tasks/posta/bench/load"
)

func TestSpreadIsMedianAndExtremes(t *testing.T) {
	t.Parallel()
	if got := spreadOf([]float64{3, 1, 2}); got != (spread{2, 1, 3}) {
		t.Errorf("odd: %v", got)
	}
	if got := spreadOf([]float64{4, 1, 2, 3}); got != (spread{2.5, 1, 4}) {
		t.Errorf("even: %v", got)
	}
	if got := spreadOf(nil).count(); got != "–" {
		t.Errorf("none: %v", got)
	}
}

func TestRatiosArePairedByRound(t *testing.T) {
	t.Parallel()
	// Both subjects halve in the second round: the machine was busy, the ratio is the same.
	got := spreadOf(ratios([]load.Sample{{Rate: 80}, {Rate: 40}}, []load.Sample{{Rate: 100}, {Rate: 50}}))
	if got != (spread{0.8, 0.8, 0.8}) {
		t.Errorf("got %v", got)
	}
}

func TestFiguresAreReadable(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 7: "7", 999: "999", 1234: "1 230", 3245678: "3 250 000", 999_999: "1 000 000"} {
		if got := thousands(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
	if got := (spread{0.8, 0.7, 0.9}).against(0.85); got != "0.80 (0.70–0.90), goal 0.85 MISSED" {
		t.Errorf("got %q", got)
	}
}
