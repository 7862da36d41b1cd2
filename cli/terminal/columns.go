package terminal

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// Columns returns how many columns of a terminal a printable text takes.
func Columns(text string) int {
	n := 0
	for _, r := range text {
		n += columnsOf(r)
	}
	return n
}

// columnsOf returns 2 for wide characters, such as those of Chinese, and 0 for marks on the character before.
func columnsOf(r rune) int {
	switch {
	case r < unicode.MaxLatin1:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	}
	if kind := width.LookupRune(r).Kind(); kind == width.EastAsianWide || kind == width.EastAsianFullwidth {
		return 2
	}
	return 1
}

// Fit shortens a printable text to a number of columns.
func Fit(text string, columns int) string {
	if len(text) <= columns || Columns(text) <= columns {
		return text
	}
	if columns < 1 {
		return ""
	}
	left := columns - 1 // for the ellipsis
	for at, r := range text {
		if left -= columnsOf(r); left < 0 {
			return text[:at] + "…"
		}
	}
	return text
}

// Pad fits a printable text into exactly this many columns.
func Pad(text string, columns int) string {
	text = Fit(text, columns)
	return text + strings.Repeat(" ", max(0, columns-Columns(text)))
}
