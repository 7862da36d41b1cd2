package main

import (
	"os"
	"runtime"
	"testing"
	"time"
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
	got := spreadOf(ratios([]sample{{Rate: 80}, {Rate: 40}}, []sample{{Rate: 100}, {Rate: 50}}))
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

func TestHistogramIsOffBySixPercentAtMost(t *testing.T) {
	t.Parallel()
	for v := uint64(1); v < 1<<40; v = v*9/8 + 1 {
		if end := bucketEnd(bucket(v)); end < v || float64(end-v) > 0.0625*float64(v) {
			t.Errorf("%d is read as %d", v, end)
		}
	}
	var h histogram
	for i := range 100 {
		h.add(time.Now().Add(-time.Duration(i)*time.Second), 1)
	}
	if p := h.percentile(0.5); p < 48*time.Second || p > 54*time.Second {
		t.Errorf("the median of 0 to 99 s is read as %v", p)
	}
}

func TestProcessFiguresAreReadFromProc(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has /proc")
	}
	if n, err := memory(os.Getpid(), "VmRSS"); err != nil || n < 1<<20 {
		t.Errorf("resident memory: %d, %v", n, err)
	}
	if _, err := memory(os.Getpid(), "VmNothing"); err == nil {
		t.Error("a missing field was read")
	}
	if cpuTime(0) != 0 {
		t.Error("no process used processor time")
	}
}
