package wire

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/posta-tasks/posta/task"
)

// bodyState says what may come next in a body.
type bodyState uint8

const (
	atValue      bodyState = iota // a value
	atFirstValue                  // a value, or the end of the array
	atFirstKey                    // a key, or the end of the object
	atKey                         // a key
	atColon                       // the colon after a key
	atAfter                       // a comma, an end, or nothing more
	atText                        // within a string
	atEscape                      // after a backslash
	atHex                         // within \uXXXX
	atLowEscape                   // the backslash of the second half of a pair
	atLowU                        // its u
	atWord                        // within true, false or null
	atMinus                       // after the minus of a number
	atZero                        // after a leading zero
	atDigits                      // in the integer part
	atPoint                       // after the point
	atFraction                    // within the fraction
	atExponent                    // after the e
	atSign                        // after the sign of the exponent
	atPower                       // within the exponent
)

// BodyReader is a reader that checks the JSON text that it passes on. So a body of any size can be checked without
// keeping it in memory: BodyReader only stores how the text nests. Read fails where the input is not one JSON text.
// BodyReader is as strict as Valid, but it does not find duplicate keys, since that needs the whole text. One
// goroutine may use it.
type BodyReader struct {
	body   io.Reader
	offset int64
	err    error

	state  bodyState
	nested []byte // the open braces and brackets
	isKey  bool   // the current string is a key
	left   string // the rest of the current word
	count  int    // hexadecimal digits of \u that were read
	code   uint32 // the value of these digits
	isLow  bool   // the digits are the second half of a pair
	runes  []byte // the first bytes of a character
}

// NewBodyReader returns a BodyReader that checks body.
func NewBodyReader(body io.Reader) *BodyReader { return &BodyReader{body: body} }

// Read implements io.Reader. At the end of the body it fails unless the text is complete.
func (r *BodyReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.body.Read(p)
	for i := 0; i < n; {
		if r.state == atText && len(r.runes) == 0 {
			plain := plainText(p[i:n])
			i, r.offset = i+plain, r.offset+int64(plain)
			if i == n {
				break
			}
		}
		if what := r.step(p[i]); what != "" {
			r.err = bodyError(what, r.offset)
			return i, r.err
		}
		i, r.offset = i+1, r.offset+1
	}
	if errors.Is(err, io.EOF) && !r.complete() {
		err = bodyError("unexpected end", r.offset)
	}
	r.err = err
	return n, err
}

// plainText returns how many bytes at the start of the text are ordinary bytes of a string.
func plainText(p []byte) int {
	for i, c := range p {
		if c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return i
		}
	}
	return len(p)
}

func bodyError(what string, offset int64) *task.Error {
	return &task.Error{Code: task.InvalidJSON, Message: "invalid json", Detail: fmt.Sprintf("%s at byte %d", what, offset+1)}
}

// complete reports whether the text may end here.
func (r *BodyReader) complete() bool {
	switch r.state {
	case atAfter, atZero, atDigits, atFraction, atPower:
		return len(r.nested) == 0
	}
	return false
}

// step checks the next byte. It returns what is wrong with it, or "".
func (r *BodyReader) step(c byte) string {
	switch r.state {
	case atText:
		return r.inText(c)
	case atEscape, atHex, atLowEscape, atLowU:
		return r.inEscape(c)
	case atWord:
		if c != r.left[0] {
			return "invalid literal, true, false or null expected"
		}
		if r.left = r.left[1:]; r.left == "" {
			r.state = atAfter
		}
		return ""
	case atMinus, atZero, atDigits, atPoint, atFraction, atExponent, atSign, atPower:
		if next, ok := inNumber(r.state, c); ok {
			r.state = next
			return ""
		}
		if r.state != atZero && r.state != atDigits && r.state != atFraction && r.state != atPower {
			return "invalid number, digit expected"
		}
		r.state = atAfter
	}
	if c == ' ' || c == '\t' || c == '\n' || c == '\r' {
		return ""
	}
	return r.between(c)
}

// between checks a byte outside of strings, numbers and words.
func (r *BodyReader) between(c byte) string {
	switch {
	case r.state == atAfter:
		return r.behind(c)
	case r.state == atColon:
		if c != ':' {
			return "':' expected"
		}
		r.state = atValue
		return ""
	case c == '}' && r.state == atFirstKey, c == ']' && r.state == atFirstValue:
		r.close()
		return ""
	case r.state == atKey || r.state == atFirstKey:
		if c != '"' {
			return "a key in quotes expected"
		}
		r.state, r.isKey = atText, true
		return ""
	}
	return r.begin(c)
}

// begin checks the first byte of a value.
func (r *BodyReader) begin(c byte) string {
	switch {
	case c == '{' || c == '[':
		if len(r.nested) >= task.MaxDepth {
			return fmt.Sprintf("nesting deeper than %d", task.MaxDepth)
		}
		r.nested = append(r.nested, c)
		r.state = atFirstKey
		if c == '[' {
			r.state = atFirstValue
		}
	case c == '"':
		r.state, r.isKey = atText, false
	case c == 't':
		r.state, r.left = atWord, "true"[1:]
	case c == 'f':
		r.state, r.left = atWord, "false"[1:]
	case c == 'n':
		r.state, r.left = atWord, "null"[1:]
	case c == '-':
		r.state = atMinus
	case c == '0':
		r.state = atZero
	case '1' <= c && c <= '9':
		r.state = atDigits
	default:
		return fmt.Sprintf("unexpected character %q", rune(c))
	}
	return ""
}

// behind checks the byte after a value.
func (r *BodyReader) behind(c byte) string {
	if len(r.nested) == 0 {
		return "unexpected data after the value"
	}
	isObject := r.nested[len(r.nested)-1] == '{'
	switch {
	case c == ',' && isObject:
		r.state = atKey
	case c == ',':
		r.state = atValue
	case c == '}' && isObject, c == ']' && !isObject:
		r.close()
	case isObject:
		return "',' or '}' expected"
	default:
		return "',' or ']' expected"
	}
	return ""
}

func (r *BodyReader) close() {
	r.nested = r.nested[:len(r.nested)-1]
	r.state = atAfter
}

// inText checks a byte of a string.
func (r *BodyReader) inText(c byte) string {
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
		r.state = atAfter
		if r.isKey {
			r.state = atColon
		}
	case c == '\\':
		r.state = atEscape
	case c < ' ':
		return "control character in a string"
	}
	return ""
}

// inEscape checks the byte after a backslash.
func (r *BodyReader) inEscape(c byte) string {
	switch {
	case r.state == atLowEscape && c == '\\':
		r.state = atLowU
	case r.state == atLowU && c == 'u', r.state == atEscape && c == 'u':
		r.isLow = r.state == atLowU
		r.state, r.count, r.code = atHex, 0, 0
	case r.state == atLowEscape, r.state == atLowU:
		return "half of a surrogate pair"
	case r.state == atHex:
		return r.inHex(c)
	case c == '"', c == '\\', c == '/', c == 'b', c == 'f', c == 'n', c == 'r', c == 't':
		r.state = atText
	default:
		return "invalid escape"
	}
	return ""
}

// inHex checks one of the four digits of \uXXXX.
func (r *BodyReader) inHex(c byte) string {
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
	r.state = atText
	if isHigh {
		r.state = atLowEscape
	}
	return ""
}

// inNumber returns the state after a byte of a number. ok is false if the byte does not belong to it.
func inNumber(s bodyState, c byte) (bodyState, bool) {
	isDigit := '0' <= c && c <= '9'
	switch {
	case s == atMinus && c == '0':
		return atZero, true
	case (s == atMinus || s == atDigits) && isDigit:
		return atDigits, true
	case (s == atZero || s == atDigits) && c == '.':
		return atPoint, true
	case (s == atPoint || s == atFraction) && isDigit:
		return atFraction, true
	case (s == atZero || s == atDigits || s == atFraction) && (c == 'e' || c == 'E'):
		return atExponent, true
	case s == atExponent && (c == '+' || c == '-'):
		return atSign, true
	case (s == atExponent || s == atSign || s == atPower) && isDigit:
		return atPower, true
	}
	return s, false
}
