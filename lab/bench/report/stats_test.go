package report

import "testing"

func TestSpreadIsMedianAndExtremes(t *testing.T) {
	t.Parallel()
	if got := SpreadOf([]float64{3, 1, 2}); got != (Spread{2, 1, 3}) {
		t.Errorf("odd: %v", got)
	}
	if got := SpreadOf([]float64{4, 1, 2, 3}); got != (Spread{2.5, 1, 4}) {
		t.Errorf("even: %v", got)
	}
	if got := SpreadOf(nil).Count(); got != "–" {
		t.Errorf("none: %v", got)
	}
}

func TestFiguresAreReadable(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 7: "7", 999: "999", 1234: "1 230", 3245678: "3 250 000", 999_999: "1 000 000"} {
		if got := Thousands(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
	if got := (Spread{0.8, 0.7, 0.9}).Against(0.85); got != "0.80 (0.70–0.90), goal 0.85 MISSED" {
		t.Errorf("got %q", got)
	}
}
