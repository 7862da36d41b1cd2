package terminal

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestNumbersAreWrittenForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := Thousands(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0.000 ms", 41 * time.Microsecond: "0.041 ms", 12345 * time.Microsecond: "12.35 ms",
		500 * time.Millisecond: "500.0 ms", 61 * time.Second: "61.0 s",
	} {
		if got := Milliseconds(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	for share, want := range map[float64]string{
		0: strings.Repeat("░", 24) + "   0%", 0.5: strings.Repeat("█", 12) + strings.Repeat("░", 12) + "  50%",
		1: strings.Repeat("█", 24) + " 100%", 7: strings.Repeat("█", 24) + " 100%", -1: strings.Repeat("░", 24) + "   0%",
		math.NaN(): strings.Repeat("░", 24) + "   0%", 0.29: strings.Repeat("█", 6) + strings.Repeat("░", 18) + "  29%",
	} {
		if got := Bar(share); got != want {
			t.Errorf("%v is %q, want %q", share, got, want)
		}
	}
}

func TestWhatCouldMoveTheCursorIsShownAsItsCode(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"hola ñ €": "hola ñ €", "a\x1b[2Jb\n": `a\u001b[2Jb\u000a`, "\u202e": `\u202e`, "\u009b": `\u009b`} {
		if got := Printable(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestTheLastOfEqualVariablesCounts(t *testing.T) {
	t.Parallel()
	out := &Outside{Env: []string{"A=1", "POSTA_TO=x:1", "POSTA_TO=y:2", "B"}}
	if got := out.Getenv("POSTA_TO"); got != "y:2" {
		t.Errorf("POSTA_TO is %q, want y:2", got)
	}
	if got := out.Getenv("B"); got != "" {
		t.Errorf("B is %q, want nothing", got)
	}
}

func TestATextFitsIntoItsColumns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text    string
		columns int
		want    string
	}{
		{"hola", 4, "hola"}, {"hola", 3, "ho…"}, {"hola", 6, "hola  "}, {"hola", 1, "…"}, {"hola", 0, ""}, {"", 2, "  "},
		{"世界", 4, "世界"}, {"世界", 3, "世…"}, {"世界", 2, "… "}, {"世", 3, "世 "}, {"ñandú", 5, "ñandú"}, {"n\u0303a", 2, "n\u0303a"}, {"n\u0303and", 3, "n\u0303a…"},
	} {
		if got := Pad(c.text, c.columns); got != c.want || Columns(got) != c.columns {
			t.Errorf("%q in %d columns is %q (%d columns), want %q", c.text, c.columns, got, Columns(got), c.want)
		}
	}
}
