// Package stream checks a JSON text while it passes, so that a body of any size can be
// checked without being held: what it remembers is how deep the text nests. It is as strict
// as wire about everything but keys that come twice, which only the whole text would show.
package stream

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/posta-tasks/posta/task"
)

// state says what may come next.
type state uint8

const (
	value      state = iota // a value
	firstValue              // a value, or the end of the array
	firstKey                // a key, or the end of the object
	key                     // a key
	colon                   // the colon behind a key
	after                   // a comma, an end, or nothing more
	text                    // within a string
	escape                  // behind a backslash
	hex                     // within \uXXXX
	lowEscape               // the backslash of the second half of a pair
	lowU                    // its u
	word                    // within true, false or null
	minus                   // behind the minus of a number
	zero                    // behind a leading zero
	digits                  // within the whole part
	point                   // behind the point
	fraction                // within the fraction
	exponent                // behind the e
	sign                    // behind its sign
	power                   // within the exponent
)

// Reader passes on what it reads and fails where that stops to be one JSON text. It belongs
// to one goroutine.
type Reader struct {
	body   io.Reader
	offset int64
	err    error

	state  state
	nested []byte // the open braces and brackets
	isKey  bool   // the string is a key
	left   string // of the word
	count  int    // hexadecimal digits that were read
	code   uint32 // their value
	isLow  bool   // they are the second half of a pair
	runes  []byte // the beginning of a character of several bytes
}

// NewReader makes a reader that checks body.
func NewReader(body io.Reader) *Reader { return &Reader{body: body} }

// Read implements io.Reader. At the end of the body it fails unless the text is complete.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.body.Read(p)
	for i := 0; i < n; {
		if r.state == text && len(r.runes) == 0 {
			plain := plainText(p[i:n])
			i, r.offset = i+plain, r.offset+int64(plain)
			if i == n {
				break
			}
		}
		if what := r.step(p[i]); what != "" {
			r.err = syntaxError(what, r.offset)
			return i, r.err
		}
		i, r.offset = i+1, r.offset+1
	}
	if errors.Is(err, io.EOF) && !r.complete() {
		err = syntaxError("unexpected end", r.offset)
	}
	r.err = err
	return n, err
}

// plainText is how many bytes of a string need no closer look.
func plainText(p []byte) int {
	for i, c := range p {
		if c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return i
		}
	}
	return len(p)
}

func syntaxError(what string, offset int64) *task.Error {
	return &task.Error{Code: task.InvalidJSON, Message: "invalid json", Detail: fmt.Sprintf("%s at byte %d", what, offset+1)}
}

// complete tells whether the text may end here.
func (r *Reader) complete() bool {
	switch r.state {
	case after, zero, digits, fraction, power:
		return len(r.nested) == 0
	}
	return false
}

// step takes one byte and says what is wrong with it.
func (r *Reader) step(c byte) string {
	switch r.state {
	case text:
		return r.inText(c)
	case escape, hex, lowEscape, lowU:
		return r.inEscape(c)
	case word:
		if c != r.left[0] {
			return "invalid literal, true, false or null expected"
		}
		if r.left = r.left[1:]; r.left == "" {
			r.state = after
		}
		return ""
	case minus, zero, digits, point, fraction, exponent, sign, power:
		if next, ok := inNumber(r.state, c); ok {
			r.state = next
			return ""
		}
		if r.state != zero && r.state != digits && r.state != fraction && r.state != power {
			return "invalid number, digit expected"
		}
		r.state = after
	}
	if c == ' ' || c == '\t' || c == '\n' || c == '\r' {
		return ""
	}
	return r.between(c)
}

// between takes a byte that is in no string, number or word.
func (r *Reader) between(c byte) string {
	switch {
	case r.state == after:
		return r.behind(c)
	case r.state == colon:
		if c != ':' {
			return "':' expected"
		}
		r.state = value
		return ""
	case c == '}' && r.state == firstKey, c == ']' && r.state == firstValue:
		r.close()
		return ""
	case r.state == key || r.state == firstKey:
		if c != '"' {
			return "a key in quotes expected"
		}
		r.state, r.isKey = text, true
		return ""
	}
	return r.begin(c)
}

// begin takes the first byte of a value.
func (r *Reader) begin(c byte) string {
	switch {
	case c == '{' || c == '[':
		if len(r.nested) >= task.MaxDepth {
			return fmt.Sprintf("nesting deeper than %d", task.MaxDepth)
		}
		r.nested = append(r.nested, c)
		r.state = firstKey
		if c == '[' {
			r.state = firstValue
		}
	case c == '"':
		r.state, r.isKey = text, false
	case c == 't':
		r.state, r.left = word, "true"[1:]
	case c == 'f':
		r.state, r.left = word, "false"[1:]
	case c == 'n':
		r.state, r.left = word, "null"[1:]
	case c == '-':
		r.state = minus
	case c == '0':
		r.state = zero
	case '1' <= c && c <= '9':
		r.state = digits
	default:
		return fmt.Sprintf("unexpected character %q", rune(c))
	}
	return ""
}

// behind takes what follows a value.
func (r *Reader) behind(c byte) string {
	if len(r.nested) == 0 {
		return "unexpected data after the value"
	}
	isObject := r.nested[len(r.nested)-1] == '{'
	switch {
	case c == ',' && isObject:
		r.state = key
	case c == ',':
		r.state = value
	case c == '}' && isObject, c == ']' && !isObject:
		r.close()
	case isObject:
		return "',' or '}' expected"
	default:
		return "',' or ']' expected"
	}
	return ""
}

func (r *Reader) close() {
	r.nested = r.nested[:len(r.nested)-1]
	r.state = after
}

// inText takes a byte of a string.
func (r *Reader) inText(c byte) string {
	switch {
	case c >= utf8.RuneSelf || len(r.runes) > 0:
		r.runes = append(r.runes, c)
		if !utf8.FullRune(r.runes) {
			return ""
		}
		if _, size := utf8.DecodeRune(r.runes); size != len(r.runes) || size == 1 {
			return "invalid UTF-8"
		}
		r.runes = r.runes[:0]
	case c == '"':
		r.state = after
		if r.isKey {
			r.state = colon
		}
	case c == '\\':
		r.state = escape
	case c < ' ':
		return "control character in a string"
	}
	return ""
}

// inEscape takes a byte behind a backslash.
func (r *Reader) inEscape(c byte) string {
	switch {
	case r.state == lowEscape && c == '\\':
		r.state = lowU
	case r.state == lowU && c == 'u', r.state == escape && c == 'u':
		r.isLow = r.state == lowU
		r.state, r.count, r.code = hex, 0, 0
	case r.state == lowEscape, r.state == lowU:
		return "half of a surrogate pair"
	case r.state == hex:
		return r.inHex(c)
	case c == '"', c == '\\', c == '/', c == 'b', c == 'f', c == 'n', c == 'r', c == 't':
		r.state = text
	default:
		return "invalid escape"
	}
	return ""
}

// inHex takes one of the four digits of \uXXXX.
func (r *Reader) inHex(c byte) string {
	switch {
	case '0' <= c && c <= '9':
		c -= '0'
	case 'a' <= c && c <= 'f':
		c -= 'a' - 10
	case 'A' <= c && c <= 'F':
		c -= 'A' - 10
	default:
		return "invalid escape"
	}
	r.code = r.code<<4 | uint32(c)
	if r.count++; r.count < 4 {
		return ""
	}
	isHigh, isLow := r.code>>10 == 0xD800>>10, r.code>>10 == 0xDC00>>10
	if isLow != r.isLow {
		return "half of a surrogate pair"
	}
	r.state = text
	if isHigh {
		r.state = lowEscape
	}
	return ""
}

// inNumber gives the state behind a byte of a number; false when it is none.
func inNumber(s state, c byte) (state, bool) {
	isDigit := '0' <= c && c <= '9'
	switch {
	case s == minus && c == '0':
		return zero, true
	case (s == minus || s == digits) && isDigit:
		return digits, true
	case (s == zero || s == digits) && c == '.':
		return point, true
	case (s == point || s == fraction) && isDigit:
		return fraction, true
	case (s == zero || s == digits || s == fraction) && (c == 'e' || c == 'E'):
		return exponent, true
	case s == exponent && (c == '+' || c == '-'):
		return sign, true
	case (s == exponent || s == sign || s == power) && isDigit:
		return power, true
	}
	return s, false
}
