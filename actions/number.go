package actions

import (
	"math"
	"strconv"
	"strings"
)

// maxShown is how much of a number an error repeats, in bytes.
const maxShown = 32

// isNumber reports whether a JSON text is a number. The first byte shows that.
func isNumber(text []byte) bool {
	return len(text) > 0 && (text[0] == '-' || text[0] >= '0' && text[0] <= '9')
}

// isMissing reports whether a payload is missing or null, which means the default.
func isMissing(text []byte) bool {
	return string(text) == "null"
}

// describe describes a payload in an error: a number by its digits, anything else by
// its kind, since it may be long or private.
func describe(text []byte) string {
	switch {
	case isNumber(text) && len(text) <= maxShown:
		return string(text)
	case isNumber(text):
		return "a number of " + strconv.Itoa(len(text)) + " bytes"
	case len(text) == 0:
		return "nothing"
	}
	switch text[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	}
	return "something else"
}

// wholeNumber reads a JSON number that is an integer from 0 to limit, in any
// spelling: 25, 25.0 and 2.5e1 are the same number. Nothing is rounded, so
// 25.00000000000000000001 is not an integer. ok is false for everything else. The
// limit is at most 999,999,999.
func wholeNumber(text []byte, limit int) (n int, ok bool) {
	if !isNumber(text) {
		return 0, false
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(string(text)), "e")
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	significant := strings.TrimRight(digits, "0")
	if significant == "" {
		return 0, true
	}
	// The value is significant × 10^scale. Atoi returns 0 without an exponent, and the
	// nearest int if it is out of range. The clamp prevents an overflow of the sum.
	exp, _ := strconv.Atoi(exponent)
	scale := min(max(exp, -math.MaxInt32), math.MaxInt32) + len(digits) - len(significant) - len(fraction)
	if negative || scale < 0 || len(significant)+scale > len("999999999") {
		return 0, false
	}
	n, err := strconv.Atoi(significant + strings.Repeat("0", scale))
	return n, err == nil && n <= limit
}
