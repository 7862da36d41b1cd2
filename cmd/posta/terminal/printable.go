package terminal

import (
	"fmt"
	"strings"
	"unicode"
)

// Printable replaces what could move the cursor, change the colours or the direction
// of a terminal by its code. What clients send is shown to whoever watches a server.
func Printable(text string) string {
	clean := true
	for _, r := range text {
		clean = clean && unicode.IsPrint(r)
	}
	if clean {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// Cut shortens a text that came from elsewhere and makes it printable.
func Cut(text string, most int) string {
	text = Printable(strings.TrimSpace(text))
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
