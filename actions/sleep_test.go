package actions_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleepWaitsForThePayloadsSecondsAndSaysSo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		payload string
		waits   time.Duration
		want    string
	}{
		{`0.5`, 500 * time.Millisecond, `"slept":0.5`},
		{`null`, 500 * time.Millisecond, `"slept":0.5`},
		{`0`, 500 * time.Millisecond, `"slept":0.5`},
		{`0.0`, 500 * time.Millisecond, `"slept":0.5`},
		{`-0`, 500 * time.Millisecond, `"slept":0.5`},
		{`0e5`, 500 * time.Millisecond, `"slept":0.5`},
		{`2`, 2 * time.Second, `"slept":2`},
		{`2.0`, 2 * time.Second, `"slept":2`},
		{`20e-1`, 2 * time.Second, `"slept":2`},
		{`1.25E0`, 1250 * time.Millisecond, `"slept":1.25`},
		{`0.001`, time.Millisecond, `"slept":0.001`},
		{`1e-300`, 0, `"slept":1e-300`},
		{`3600`, time.Hour, `"slept":3600`},
	} {
		t.Run(c.payload, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				wantAnswer(t, "sleep", c.payload, c.want)
				if waited := time.Since(start); waited != c.waits {
					t.Errorf("sleep %s waits %v, want %v", c.payload, waited, c.waits)
				}
			})
		})
	}
}

func TestSleepRefusesWhatIsNoTimeAndNamesTheLimit(t *testing.T) {
	t.Parallel()
	for payload, shown := range map[string]string{
		`-1`: "not -1", `-0.001`: "not -0.001", `3600.001`: "not 3600.001", `1e9`: "not 1e9", `1e999`: "not 1e999",
		`"x"`: "a string", `"1"`: "a string", `true`: "a boolean", `false`: "a boolean",
		`{}`: "an object", `[1]`: "an array", strings.Repeat("9", 5000): "a number of 5000 bytes",
	} {
		wantRefusal(t, "sleep", payload, "from 0 to 3600", shown)
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := answer(t, ctx, "sleep", `60`); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("sleep ends with %v, want the context's error", err)
		}
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("sleep ends after %v, want 1s", waited)
		}
	})
}

func BenchmarkSleep(b *testing.B) { benchmark(b, "sleep", `1e-9`) }
