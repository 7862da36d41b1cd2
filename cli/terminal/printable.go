package terminal

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// What clients, servers and nodes of others send may hold characters that move the cursor, change the
// colours or turn the direction of a terminal. None of them reaches it: texts for people pass through
// Printable or Cut, the arguments of Outside.Talk and lines of progress are escaped there, and results and
// JSON are written to Outside.Results.

// Printable replaces what could move the cursor, change the colours or the direction
// of a terminal by its code. A byte that is no UTF-8 becomes U+FFFD.
func Printable(text string) string {
	if clean(text) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			writeEscape(&b, r)
		}
	}
	return b.String()
}

func clean(text string) bool {
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(text)
}

// writeEscape writes a character as JSON does, which people can read as well.
func writeEscape(w io.Writer, r rune) {
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		fmt.Fprintf(w, `\u%04x\u%04x`, high, low)
		return
	}
	fmt.Fprintf(w, `\u%04x`, r)
}

// Line makes a text from elsewhere one printable line: its line breaks become "; ".
func Line(text string) string {
	var parts []string
	for part := range strings.Lines(text) {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, Printable(part))
		}
	}
	return strings.Join(parts, "; ")
}

// Cut shortens a text that came from elsewhere and makes it printable.
func Cut(text string, most int) string {
	text = Printable(strings.TrimSpace(text))
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// Results is where results and JSON are written: Stdout as it is, or, on a terminal, with what could harm
// it escaped as JSON does, so that JSON means the same. Line feeds and tabs stay.
func (o *Outside) Results() io.Writer {
	if o.ResultsToTerminal() {
		return harmless{o.Stdout}
	}
	return o.Stdout
}

// Logs is where logs in JSON are written: Stderr, with the same care on a terminal.
func (o *Outside) Logs() io.Writer {
	if o.TalksToTerminal() {
		return harmless{o.Stderr}
	}
	return o.Stderr
}

// harmless escapes what is written. A character must not be split between two writes.
type harmless struct{ to io.Writer }

// Write implements io.Writer.
func (h harmless) Write(text []byte) (int, error) {
	var b bytes.Buffer
	for rest := text; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if unicode.IsPrint(r) || r == '\n' || r == '\t' {
			b.WriteRune(r)
		} else {
			writeEscape(&b, r)
		}
		rest = rest[n:]
	}
	if _, err := h.to.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(text), nil
}
