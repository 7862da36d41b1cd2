package wire

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/posta-tasks/posta/task"
)

// fewKeys is the largest number of keys that are compared in pairs. The keys of larger objects are sorted, so that
// a hostile object costs n log n.
const fewKeys = 8

// objectKey is one key of an object that is being read, without its escapes.
type objectKey struct {
	span
	unescaped bool // the span is in scanner.text, not in the line
}

// scanner checks one JSON text strictly. The zero value is ready to use, and using it again saves allocations. It
// is not safe for concurrent use.
type scanner struct {
	data []byte      // the text
	pos  int         // where the next token begins
	keys []objectKey // of all objects that are open, innermost last
	text []byte      // unescaped keys
	err  syntaxError
}

// syntaxError says where a text stops being JSON.
type syntaxError struct {
	offset int
	what   string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.what, e.offset+1) }

// reset prepares the scanner for another text.
func (s *scanner) reset(data []byte) {
	s.data, s.pos = data, 0
	s.keys, s.text = s.keys[:0], s.text[:0]
}

// fail records what is wrong and where. It returns false, which its callers return.
func (s *scanner) fail(offset int, what string) bool {
	s.err = syntaxError{offset, what}
	return false
}

// space skips white space, which is rare.
func (s *scanner) space() {
	if s.pos < len(s.data) && s.data[s.pos] > ' ' {
		return
	}
	s.skipSpace()
}

func (s *scanner) skipSpace() {
	for s.pos < len(s.data) && class[s.data[s.pos]]&classSpace != 0 {
		s.pos++
	}
}

// end checks that nothing but white space is left.
func (s *scanner) end() bool {
	s.space()
	if s.pos < len(s.data) {
		return s.fail(s.pos, "unexpected data after the value")
	}
	return true
}

// value checks the value that begins at pos, at the given depth of nesting.
func (s *scanner) value(depth int) bool {
	if s.pos >= len(s.data) {
		return s.fail(s.pos, "unexpected end")
	}
	switch c := s.data[s.pos]; c {
	case '"':
		s.pos++
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
		r, n := utf8.DecodeRune(s.data[s.pos:])
		if r == utf8.RuneError && n == 1 {
			return s.fail(s.pos, "invalid UTF-8")
		}
		return s.fail(s.pos, fmt.Sprintf("unexpected character %q", r))
	}
}

// word checks one of the three literal names.
func (s *scanner) word(word string) bool {
	if rest := s.data[s.pos:]; len(rest) < len(word) || string(rest[:len(word)]) != word {
		return s.fail(s.pos, "invalid literal, true, false or null expected")
	}
	s.pos += len(word)
	return true
}

// digits skips digits and reports whether there was one.
func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos]-'0' < 10 {
		s.pos++
	}
	if s.pos == start {
		return s.fail(s.pos, "invalid number, digit expected")
	}
	return true
}

// number checks a number.
func (s *scanner) number() bool {
	if s.data[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.data) && s.data[s.pos] == '0' {
		s.pos++
	} else if !s.digits() {
		return false
	}
	if s.pos < len(s.data) && s.data[s.pos] == '.' {
		s.pos++
		if !s.digits() {
			return false
		}
	}
	if s.pos < len(s.data) && s.data[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.data) && (s.data[s.pos] == '+' || s.data[s.pos] == '-') {
			s.pos++
		}
		return s.digits()
	}
	return true
}

// str checks a string whose opening quote was read, and moves pos after the closing one. It reports whether the
// string has escapes.
func (s *scanner) str() (escaped, ok bool) {
	data, pos := s.data, s.pos
	for {
		for pos < len(data) && class[data[pos]]&classPlain != 0 {
			pos++
		}
		if pos >= len(data) {
			return false, s.fail(len(data), "unexpected end in a string")
		}
		switch c := data[pos]; {
		case c == '"':
			s.pos = pos + 1
			return escaped, true
		case c == '\\':
			escaped = true
			n := s.escape(pos)
			if n == 0 {
				return false, false
			}
			pos += n
		case c < utf8.RuneSelf:
			return false, s.fail(pos, fmt.Sprintf("control character 0x%02x in a string", c))
		default:
			r, n := utf8.DecodeRune(data[pos:])
			if r == utf8.RuneError && n == 1 {
				return false, s.fail(pos, "invalid UTF-8")
			}
			pos += n
		}
	}
}

// escape checks the escape at pos and returns its length, or 0 if it is invalid.
func (s *scanner) escape(pos int) int {
	if pos+1 >= len(s.data) {
		s.fail(len(s.data), "unexpected end in a string")
		return 0
	}
	switch s.data[pos+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
	default:
		s.fail(pos, "invalid escape")
		return 0
	}
	unit, ok := hex4(s.data[pos+2:])
	switch {
	case !ok:
		s.fail(pos, "invalid \\u escape")
	case unit < 0xD800 || unit > 0xDFFF:
		return 6
	case unit >= 0xDC00 || !s.lowSurrogate(pos+6):
		s.fail(pos, "lone surrogate")
	default:
		return 12
	}
	return 0
}

// lowSurrogate reports whether the second half of a surrogate pair is at pos.
func (s *scanner) lowSurrogate(pos int) bool {
	if pos+6 > len(s.data) || s.data[pos] != '\\' || s.data[pos+1] != 'u' {
		return false
	}
	unit, ok := hex4(s.data[pos+2:])
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
func (s *scanner) array(depth int) bool {
	if depth > task.MaxDepth {
		return s.fail(s.pos, fmt.Sprintf("nesting deeper than %d", task.MaxDepth))
	}
	s.pos++
	s.space()
	if s.pos < len(s.data) && s.data[s.pos] == ']' {
		s.pos++
		return true
	}
	for {
		if !s.value(depth) {
			return false
		}
		if more, ok := s.next(']', "',' or ']' expected"); !ok || !more {
			return ok
		}
	}
}

// next reads what follows a member or an element: a comma or the closing byte.
func (s *scanner) next(closing byte, expected string) (more, ok bool) {
	s.space()
	if s.pos >= len(s.data) {
		return false, s.fail(s.pos, "unexpected end")
	}
	switch s.data[s.pos] {
	case ',':
		s.pos++
		s.space()
		return true, true
	case closing:
		s.pos++
		return false, true
	}
	return false, s.fail(s.pos, expected)
}

// object checks an object inside a value, which must not have duplicate keys.
func (s *scanner) object(depth int) bool {
	if depth > task.MaxDepth {
		return s.fail(s.pos, fmt.Sprintf("nesting deeper than %d", task.MaxDepth))
	}
	first, start := len(s.keys), s.pos
	s.pos++
	s.space()
	if s.pos < len(s.data) && s.data[s.pos] == '}' {
		s.pos++
		return true
	}
	for {
		k, ok := s.key()
		if !ok {
			return false
		}
		s.keys = append(s.keys, k)
		if !s.value(depth) {
			return false
		}
		more, ok := s.next('}', "',' or '}' expected")
		if !ok {
			return false
		}
		if !more {
			break
		}
	}
	if s.repeated(s.keys[first:]) {
		return s.fail(start, "duplicate key in the object")
	}
	s.keys = s.keys[:first]
	return true
}

// key reads a key and its colon.
func (s *scanner) key() (objectKey, bool) {
	if s.pos >= len(s.data) || s.data[s.pos] != '"' {
		return objectKey{}, s.fail(s.pos, "key expected")
	}
	s.pos++
	start := s.pos
	escaped, ok := s.str()
	if !ok {
		return objectKey{}, false
	}
	k := objectKey{span: span{uint32(start), uint32(s.pos - 1)}}
	if escaped {
		from := len(s.text)
		s.text = appendUnescaped(s.text, s.data[start:s.pos-1])
		k = objectKey{span{uint32(from), uint32(len(s.text))}, true}
	}
	s.space()
	if s.pos >= len(s.data) || s.data[s.pos] != ':' {
		return objectKey{}, s.fail(s.pos, "':' expected")
	}
	s.pos++
	s.space()
	return k, true
}

// name returns the bytes of a key without escapes. They are valid until the next key.
func (s *scanner) name(k objectKey) []byte {
	if k.unescaped {
		return s.text[k.start:k.end]
	}
	return s.data[k.start:k.end]
}

// repeated reports whether there are duplicate keys. It may reorder them.
func (s *scanner) repeated(keys []objectKey) bool {
	if len(keys) > fewKeys {
		slices.SortFunc(keys, func(a, b objectKey) int { return bytes.Compare(s.name(a), s.name(b)) })
		for i := 1; i < len(keys); i++ {
			if bytes.Equal(s.name(keys[i-1]), s.name(keys[i])) {
				return true
			}
		}
		return false
	}
	for i := 1; i < len(keys); i++ {
		for j := range i {
			if bytes.Equal(s.name(keys[i]), s.name(keys[j])) {
				return true
			}
		}
	}
	return false
}

// members calls visit for each member of the object at pos, including duplicates, until visit returns false.
func (s *scanner) members(depth int, visit func(name, raw []byte) bool) bool {
	s.pos++
	s.space()
	if s.pos < len(s.data) && s.data[s.pos] == '}' {
		s.pos++
		return true
	}
	for {
		k, ok := s.key()
		if !ok {
			return false
		}
		from := s.pos
		if !s.value(depth) || !visit(s.name(k), s.data[from:s.pos]) {
			return false
		}
		if more, ok := s.next('}', "',' or '}' expected"); !ok || !more {
			return ok
		}
	}
}

// items visits the items of an array that is known to be JSON, until visit returns false.
func (s *scanner) items(depth int, visit func(raw []byte) bool) bool {
	s.pos++
	s.space()
	if s.pos < len(s.data) && s.data[s.pos] == ']' {
		s.pos++
		return true
	}
	for {
		from := s.pos
		if !s.value(depth) || !visit(s.data[from:s.pos]) {
			return false
		}
		if more, ok := s.next(']', "',' or ']' expected"); !ok || !more {
			return ok
		}
	}
}

// keep adds a key of an object that the caller reads itself.
func (s *scanner) keep(k objectKey) { s.keys = append(s.keys, k) }

// keptTwice reports whether keep was called with duplicate keys.
func (s *scanner) keptTwice() bool { return len(s.keys) > 1 && s.repeated(s.keys) }

// failure returns where the text stops being JSON, after a method has returned false.
func (s *scanner) failure() error { return &s.err }

// Valid returns nil if text is exactly one JSON text by the strict rules of the protocol. It is safe for concurrent
// use.
func Valid(text []byte) error {
	s := scanner{data: text}
	s.space()
	if !s.value(0) || !s.end() {
		return &s.err
	}
	return nil
}
