// Package scan reads JSON strictly and without allocating: it is what the line protocol
// is parsed with. It checks a text and says where the parts of it are; what they mean is
// its caller's.
package scan

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/posta-tasks/posta/task"
)

// fewKeys is up to how many keys of one object are compared pair by pair; the keys of
// larger objects are sorted, so that a hostile object costs n log n.
const fewKeys = 8

// span is a part of the line, or of the scanner's unescaped keys.
type span struct{ start, end uint32 }

// Key is one key of an object that is being read, without its escapes.
type Key struct {
	span
	unescaped bool // the span is one of scanner.text, not of the line
}

// Scanner checks one JSON text strictly. The zero value is ready; reusing one spares
// its allocations. It is not safe for concurrent use.
type Scanner struct {
	Data []byte // the text
	Pos  int    // where the next thing begins
	keys []Key  // of all objects that are open, innermost last
	text []byte // unescaped keys
	err  syntaxError
}

// syntaxError says where a text stops to be JSON.
type syntaxError struct {
	offset int
	what   string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.what, e.offset+1) }

// Reset prepares the scanner for another text.
func (s *Scanner) Reset(data []byte) {
	s.Data, s.Pos = data, 0
	s.keys, s.text = s.keys[:0], s.text[:0]
}

// Fail records what is wrong and where; it returns false for its callers to pass on.
func (s *Scanner) Fail(offset int, what string) bool {
	s.err = syntaxError{offset, what}
	return false
}

// Space skips white space; there is hardly ever any.
func (s *Scanner) Space() {
	if s.Pos < len(s.Data) && s.Data[s.Pos] > ' ' {
		return
	}
	s.skipSpace()
}

func (s *Scanner) skipSpace() {
	for s.Pos < len(s.Data) && class[s.Data[s.Pos]]&classSpace != 0 {
		s.Pos++
	}
}

// End checks that nothing but white space is left.
func (s *Scanner) End() bool {
	s.Space()
	if s.Pos < len(s.Data) {
		return s.Fail(s.Pos, "unexpected data after the value")
	}
	return true
}

// Value checks the value that begins at pos, at the given depth of nesting.
func (s *Scanner) Value(depth int) bool {
	if s.Pos >= len(s.Data) {
		return s.Fail(s.Pos, "unexpected end")
	}
	switch c := s.Data[s.Pos]; c {
	case '"':
		s.Pos++
		_, ok := s.str()
		return ok
	case '{':
		return s.object(depth + 1)
	case '[':
		return s.array(depth + 1)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		if c == '-' || c-'0' < 10 {
			return s.number()
		}
		r, n := utf8.DecodeRune(s.Data[s.Pos:])
		if r == utf8.RuneError && n == 1 {
			return s.Fail(s.Pos, "invalid UTF-8")
		}
		return s.Fail(s.Pos, fmt.Sprintf("unexpected character %q", r))
	}
}

// word checks one of the three literal names.
func (s *Scanner) word(word string) bool {
	if rest := s.Data[s.Pos:]; len(rest) < len(word) || string(rest[:len(word)]) != word {
		return s.Fail(s.Pos, "invalid literal, true, false or null expected")
	}
	s.Pos += len(word)
	return true
}

// Digits skips digits and tells whether there was one.
func (s *Scanner) Digits() bool {
	start := s.Pos
	for s.Pos < len(s.Data) && s.Data[s.Pos]-'0' < 10 {
		s.Pos++
	}
	if s.Pos == start {
		return s.Fail(s.Pos, "invalid number, digit expected")
	}
	return true
}

// number checks a number.
func (s *Scanner) number() bool {
	if s.Data[s.Pos] == '-' {
		s.Pos++
	}
	if s.Pos < len(s.Data) && s.Data[s.Pos] == '0' {
		s.Pos++
	} else if !s.Digits() {
		return false
	}
	if s.Pos < len(s.Data) && s.Data[s.Pos] == '.' {
		s.Pos++
		if !s.Digits() {
			return false
		}
	}
	if s.Pos < len(s.Data) && s.Data[s.Pos]|0x20 == 'e' {
		s.Pos++
		if s.Pos < len(s.Data) && (s.Data[s.Pos] == '+' || s.Data[s.Pos] == '-') {
			s.Pos++
		}
		return s.Digits()
	}
	return true
}

// str checks a string whose opening quote has been read, leaves pos behind the closing
// one and tells whether the string has escapes.
func (s *Scanner) str() (escaped, ok bool) {
	data, pos := s.Data, s.Pos
	for {
		for pos < len(data) && class[data[pos]]&classPlain != 0 {
			pos++
		}
		if pos >= len(data) {
			return false, s.Fail(len(data), "unexpected end in a string")
		}
		switch c := data[pos]; {
		case c == '"':
			s.Pos = pos + 1
			return escaped, true
		case c == '\\':
			escaped = true
			n := s.escape(pos)
			if n == 0 {
				return false, false
			}
			pos += n
		case c < utf8.RuneSelf:
			return false, s.Fail(pos, fmt.Sprintf("control character 0x%02x in a string", c))
		default:
			r, n := utf8.DecodeRune(data[pos:])
			if r == utf8.RuneError && n == 1 {
				return false, s.Fail(pos, "invalid UTF-8")
			}
			pos += n
		}
	}
}

// escape checks the escape that begins at pos and gives its length, 0 if it is invalid.
func (s *Scanner) escape(pos int) int {
	if pos+1 >= len(s.Data) {
		s.Fail(len(s.Data), "unexpected end in a string")
		return 0
	}
	switch s.Data[pos+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
	default:
		s.Fail(pos, "invalid escape")
		return 0
	}
	unit, ok := hex4(s.Data[pos+2:])
	switch {
	case !ok:
		s.Fail(pos, "invalid \\u escape")
	case unit < 0xD800 || unit > 0xDFFF:
		return 6
	case unit >= 0xDC00 || !s.lowSurrogate(pos+6):
		s.Fail(pos, "lone surrogate")
	default:
		return 12
	}
	return 0
}

// lowSurrogate tells whether the second half of a surrogate pair is at pos.
func (s *Scanner) lowSurrogate(pos int) bool {
	if pos+6 > len(s.Data) || s.Data[pos] != '\\' || s.Data[pos+1] != 'u' {
		return false
	}
	unit, ok := hex4(s.Data[pos+2:])
	return ok && unit >= 0xDC00 && unit <= 0xDFFF
}

// hex4 reads four hexadecimal digits.
func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var unit rune
	for _, c := range b[:4] {
		switch {
		case c-'0' < 10:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		unit = unit<<4 | rune(c)
	}
	return unit, true
}

// array checks an array.
func (s *Scanner) array(depth int) bool {
	if depth > task.MaxDepth {
		return s.Fail(s.Pos, fmt.Sprintf("nesting deeper than %d", task.MaxDepth))
	}
	s.Pos++
	s.Space()
	if s.Pos < len(s.Data) && s.Data[s.Pos] == ']' {
		s.Pos++
		return true
	}
	for {
		if !s.Value(depth) {
			return false
		}
		if more, ok := s.Next(']', "',' or ']' expected"); !ok || !more {
			return ok
		}
	}
}

// Next reads what follows a member or an element: a comma, or the closing byte.
func (s *Scanner) Next(closing byte, expected string) (more, ok bool) {
	s.Space()
	if s.Pos >= len(s.Data) {
		return false, s.Fail(s.Pos, "unexpected end")
	}
	switch s.Data[s.Pos] {
	case ',':
		s.Pos++
		s.Space()
		return true, true
	case closing:
		s.Pos++
		return false, true
	}
	return false, s.Fail(s.Pos, expected)
}

// object checks an object inside a value, and that no key comes twice in it.
func (s *Scanner) object(depth int) bool {
	if depth > task.MaxDepth {
		return s.Fail(s.Pos, fmt.Sprintf("nesting deeper than %d", task.MaxDepth))
	}
	first, start := len(s.keys), s.Pos
	s.Pos++
	s.Space()
	if s.Pos < len(s.Data) && s.Data[s.Pos] == '}' {
		s.Pos++
		return true
	}
	for {
		k, ok := s.Key()
		if !ok {
			return false
		}
		s.keys = append(s.keys, k)
		if !s.Value(depth) {
			return false
		}
		more, ok := s.Next('}', "',' or '}' expected")
		if !ok {
			return false
		}
		if !more {
			break
		}
	}
	if s.repeated(s.keys[first:]) {
		return s.Fail(start, "duplicate key in the object")
	}
	s.keys = s.keys[:first]
	return true
}

// Key reads a key and the colon behind it.
func (s *Scanner) Key() (Key, bool) {
	if s.Pos >= len(s.Data) || s.Data[s.Pos] != '"' {
		return Key{}, s.Fail(s.Pos, "key expected")
	}
	s.Pos++
	start := s.Pos
	escaped, ok := s.str()
	if !ok {
		return Key{}, false
	}
	k := Key{span: span{uint32(start), uint32(s.Pos - 1)}}
	if escaped {
		from := len(s.text)
		s.text = AppendUnescaped(s.text, s.Data[start:s.Pos-1])
		k = Key{span{uint32(from), uint32(len(s.text))}, true}
	}
	s.Space()
	if s.Pos >= len(s.Data) || s.Data[s.Pos] != ':' {
		return Key{}, s.Fail(s.Pos, "':' expected")
	}
	s.Pos++
	s.Space()
	return k, true
}

// Name gives a key's bytes without escapes, valid until the scanner's next key.
func (s *Scanner) Name(k Key) []byte {
	if k.unescaped {
		return s.text[k.start:k.end]
	}
	return s.Data[k.start:k.end]
}

// repeated tells whether one of the keys comes twice. It may reorder them.
func (s *Scanner) repeated(keys []Key) bool {
	if len(keys) > fewKeys {
		slices.SortFunc(keys, func(a, b Key) int { return bytes.Compare(s.Name(a), s.Name(b)) })
		for i := 1; i < len(keys); i++ {
			if bytes.Equal(s.Name(keys[i-1]), s.Name(keys[i])) {
				return true
			}
		}
		return false
	}
	for i := 1; i < len(keys); i++ {
		for j := range i {
			if bytes.Equal(s.Name(keys[i]), s.Name(keys[j])) {
				return true
			}
		}
	}
	return false
}

// Members reads the object at pos and hands each member on, until visit returns false.
// Of members that come twice, both are handed on.
func (s *Scanner) Members(depth int, visit func(name, raw []byte) bool) bool {
	s.Pos++
	s.Space()
	if s.Pos < len(s.Data) && s.Data[s.Pos] == '}' {
		s.Pos++
		return true
	}
	for {
		k, ok := s.Key()
		if !ok {
			return false
		}
		from := s.Pos
		if !s.Value(depth) || !visit(s.Name(k), s.Data[from:s.Pos]) {
			return false
		}
		if more, ok := s.Next('}', "',' or '}' expected"); !ok || !more {
			return ok
		}
	}
}

// Keep remembers a key of the object that the caller reads by itself.
func (s *Scanner) Keep(k Key) { s.keys = append(s.keys, k) }

// KeptTwice tells whether a key was kept twice.
func (s *Scanner) KeptTwice() bool { return len(s.keys) > 1 && s.repeated(s.keys) }

// Err says where the text stops to be JSON, after a method has given false.
func (s *Scanner) Err() error { return &s.err }

// Valid tells whether text is exactly one JSON text by the protocol's strict rules. It
// is safe for concurrent use.
func Valid(text []byte) error {
	s := Scanner{Data: text}
	s.Space()
	if !s.Value(0) || !s.End() {
		return &s.err
	}
	return nil
}
