package task

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode"
)

// Fault returns the name of a fault: tasks with the same action, code and cause have the same one. It is 12
// hexadecimal digits.
func Fault(action string, code Code, text string) string {
	sum := sha256.Sum256([]byte(action + "\x00" + string(code) + "\x00" + Cause(text)))
	return hex.EncodeToString(sum[:6])
}

// causeBytes is how much of an error says what the cause is: its beginning.
const causeBytes = 1000

// Cause returns an error text in which each "#" stands for a quoted text, an id or a number, since these differ
// between errors with the same cause. Runs of spaces become one.
func Cause(text string) string {
	if len(text) > causeBytes {
		text = text[:causeBytes]
	}
	text = strings.ToValidUTF8(text, "#")
	text = quotedText.ReplaceAllString(text, "${1}#")
	text = wordText.ReplaceAllStringFunc(text, func(word string) string {
		if isID(word) {
			return "#"
		}
		return word
	})
	return strings.Join(strings.Fields(numberText.ReplaceAllString(text, "#")), " ")
}

var (
	// quotedText is a quoted text. An apostrophe inside a word does not begin one.
	quotedText = regexp.MustCompile("(^|[^\\pL\\pN])(?:\"(?:[^\"\\\\]|\\\\.)*\"|'[^']*'|`[^`]*`|«[^»]*»|“[^”]*”|‘[^’]*’)")
	wordText   = regexp.MustCompile(`[\pL\pN_-]{8,}`)
	numberText = regexp.MustCompile(`[-+]?\d+(?:[.,:]\d+)*`)
)

// isID reports whether a word is an id and no word of a language: letters and digits take turns in it, as in a ULID,
// a UUID, a hash or "req_8fK2jLmN".
func isID(word string) bool {
	turns, digit := 0, false
	for i, r := range strings.Map(func(r rune) rune {
		if r == '_' || r == '-' {
			return -1
		}
		return r
	}, word) {
		if i > 0 && unicode.IsDigit(r) != digit {
			turns++
		}
		digit = unicode.IsDigit(r)
	}
	return turns >= 3
}
