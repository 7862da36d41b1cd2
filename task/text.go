package task

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A text that a client sends, such as a key or a label, is stored unchanged. PostgreSQL cannot store U+0000, and
// neither a store nor JSON can store bytes that are not UTF-8. A name (of an action, a queue, a task or a node)
// must not contain control characters either, since people read it, and programs that split lines. Both doors, the
// client and the command line use the functions below, so that the answer is the same everywhere and with every
// store.

// CheckText refuses a text that no store can keep. The refusal is invalid_request and names the field.
func CheckText[T string | []byte](field string, text T) *Error {
	if asciiName(text) {
		return nil
	}
	switch s := string(text); {
	case !utf8.ValidString(s):
		return RefuseField(InvalidRequest, field, "%s is not valid UTF-8", field)
	case strings.IndexByte(s, 0) >= 0:
		return RefuseField(InvalidRequest, field, "%s holds the character U+0000, which is not allowed", field)
	}
	return nil
}

// CheckName refuses a name that CheckText refuses, or that contains a control character: U+0000 to U+001F and
// U+007F to U+009F.
func CheckName[T string | []byte](field string, name T) *Error {
	if asciiName(name) {
		return nil
	}
	if refusal := CheckText(field, name); refusal != nil {
		return refusal
	}
	for _, r := range string(name) {
		if unicode.IsControl(r) {
			return RefuseField(InvalidRequest, field, "%s holds the control character U+%04X, which is not allowed", field, r)
		}
	}
	return nil
}

// asciiName reports whether a text is printable ASCII, as nearly all names are.
func asciiName[T string | []byte](text T) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// MaxQueue is the length of a queue's name in bytes.
const MaxQueue = 64

// CheckQueue refuses an invalid name of a queue. A name has 1 to MaxQueue of the characters a-z, 0-9, '.', '_' and
// '-'. It is not "." or "..", since HTTP paths cannot contain them.
func CheckQueue(name string) *Error {
	const field = "queue"
	if refusal := CheckName(field, name); refusal != nil {
		return refusal
	}
	if n := len(name); n == 0 || n > MaxQueue {
		return RefuseField(InvalidRequest, field, "queue has %d bytes, 1 to %d are allowed", n, MaxQueue)
	}
	if name == "." || name == ".." {
		return RefuseField(InvalidRequest, field, `queue cannot be "." or ".."`)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return RefuseField(InvalidRequest, field, "queue may have only a-z, 0-9, '.', '_' and '-'")
		}
	}
	return nil
}

// CleanText replaces U+0000 and bytes that are not UTF-8 by U+FFFD, so that every store can keep the text. It is
// used for error messages and progress of actions.
func CleanText(text string) string {
	if asciiName(text) {
		return text
	}
	return strings.Map(func(r rune) rune { // invalid bytes arrive as U+FFFD
		if r == 0 {
			return utf8.RuneError
		}
		return r
	}, text)
}

// AppendString appends text as a JSON string. Bytes that are not UTF-8 become U+FFFD. It escapes what JSON
// requires, and DEL, which terminals interpret.
func AppendString(dst []byte, text string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ' || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRuneInString(text[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		i++
	}
	return append(dst, '"')
}
