package main

import (
	"strings"
	"testing"
	"time"
)

func TestNumbersAreWrittenForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0.000 ms", 41 * time.Microsecond: "0.041 ms", 12345 * time.Microsecond: "12.35 ms",
		500 * time.Millisecond: "500.0 ms", 61 * time.Second: "61.0 s",
	} {
		if got := milliseconds(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	for share, want := range map[float64]string{
		0: strings.Repeat("░", 24) + "   0%", 0.5: strings.Repeat("█", 12) + strings.Repeat("░", 12) + "  50%",
		1: strings.Repeat("█", 24) + " 100%", 7: strings.Repeat("█", 24) + " 100%", -1: strings.Repeat("░", 24) + "   0%",
	} {
		if got := drawBar(share); got != want {
			t.Errorf("%v is %q, want %q", share, got, want)
		}
	}
}

func TestASizeIsANumberOfBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"0": 0, "65536": 65536, "64KiB": 65536, "1 MiB": 1 << 20, "2GiB": 2 << 30} {
		var s size
		if err := s.Set(text); err != nil || int(s) != want {
			t.Errorf("%q is %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "1MB", "99999999999GiB"} {
		var s size
		if err := s.Set(text); err == nil {
			t.Errorf("%q is taken for %d bytes", text, s)
		}
	}
	for n, want := range map[size]string{0: "0", 1000: "1000", 1 << 20: "1MiB", 3 << 10: "3KiB"} {
		if got := n.String(); got != want {
			t.Errorf("%d is %q, want %q", int(n), got, want)
		}
	}
}

func TestAPayloadIsJSONOrAString(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"25": "25", "hola": `"hola"`, `"hola"`: `"hola"`, "": `""`, "null": "null", "01": `"01"`, "1e400": "1e400",
		"[1, 2]": "[1, 2]", " 7 ": "7", "{\n \"a\": 1\n}": `{"a":1}`, "-": `"-"`, "@-": `"from stdin"`, "a\nb": `"a\nb"`,
	} {
		var stderr buffer
		got, err := readPayload(&outside{Stdin: strings.NewReader("from stdin"), Stderr: &stderr}, word)
		if err != nil || string(got) != want {
			t.Errorf("%q is %s, %v; want %s", word, got, err, want)
		}
	}
	for _, word := range []string{"\xff", `{"a":1,"a":2}`, `"\ud800"`, "@/no/such/file"} {
		if got, err := readPayload(&outside{}, word); err == nil {
			t.Errorf("%q is taken for %s", word, got)
		}
	}
}

func TestWhatCouldMoveTheCursorIsShownAsItsCode(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"hola ñ €": "hola ñ €", "a\x1b[2Jb\n": `a\u001b[2Jb\u000a`, "\u202e": `\u202e`, "\u009b": `\u009b`} {
		if got := printable(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
