package cli

import (
	"testing"
	"time"
)

func TestATimeIsSecondsUnlessItHasAUnit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"2": 2 * time.Second, "0.5": 500 * time.Millisecond, "0": 0, "200ms": 200 * time.Millisecond, "1m30s": 90 * time.Second,
	} {
		var got secondsFlag
		if err := got.Set(text); err != nil || time.Duration(got) != want {
			t.Errorf("%s is %s (%v), want %s", text, time.Duration(got), err, want)
		}
	}
	for _, text := range []string{"", "soon", "1x", "5 s"} {
		var got secondsFlag
		if got.Set(text) == nil {
			t.Errorf("%q is taken for %s", text, time.Duration(got))
		}
	}
}
