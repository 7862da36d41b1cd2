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

// Texts from clients, servers and nodes may contain characters that move the cursor, or change the colours or the
// text direction of a terminal. No such character reaches the terminal: texts for people pass through Printable or
// Cut, the arguments of Outside.Talk and progress lines are escaped there, and results and JSON are written to
// Outside.Results.

// Printable replaces characters that could move the cursor, or change the colours or the text direction of a
// terminal, by their codes. Bytes that are not UTF-8 become U+FFFD.
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

// writeEscape writes a character as a JSON escape, which people can read too.
func writeEscape(w io.Writer, r rune) {
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		fmt.Fprintf(w, `\u%04x\u%04x`, high, low)
		return
	}
	fmt.Fprintf(w, `\u%04x`, r)
}

// Line makes a text one printable line. Its line breaks become "; ".
func Line(text string) string {
	var parts []string
	for part := range strings.Lines(text) {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, Printable(part))
		}
	}
	return strings.Join(parts, "; ")
}

// Cut shortens a text and makes it printable.
func Cut(text string, most int) string {
	text = Printable(strings.TrimSpace(text))
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// Results returns the writer for results and JSON: Stdout. On a terminal it escapes dangerous characters as JSON
// escapes, so that the meaning of JSON does not change. Line feeds and tabs stay.
func (o *Outside) Results() io.Writer {
	if o.ResultsToTerminal() {
		return harmless{o.Stdout}
	}
	return o.Stdout
}

// Logs returns the writer for logs in JSON: Stderr. On a terminal it escapes dangerous characters like Results.
func (o *Outside) Logs() io.Writer {
	if o.TalksToTerminal() {
		return harmless{o.Stderr}
	}
	return o.Stderr
}

// harmless is a writer that escapes dangerous characters. Two writes must not share a character.
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
