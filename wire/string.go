package wire

import (
	"unicode/utf16"
	"unicode/utf8"
)

// Classes of bytes for the scanner. A space has both.
const (
	classPlain = 1 << iota // stands for itself inside a string
	classSpace             // white space between values
)

// class has the classes of each byte.
var class = func() (table [256]uint8) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		table[c] = classPlain
	}
	table['"'], table['\\'] = 0, 0
	for _, c := range " \t\r\n" {
		table[c] |= classSpace
	}
	return table
}()

// appendUnescaped appends the text of a valid JSON string, given without its quotes.
func appendUnescaped(dst, raw []byte) []byte {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			dst = append(dst, raw[i])
			continue
		}
		i++
		switch raw[i] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			unit, _ := hex4(raw[i+1:])
			i += 4
			if utf16.IsSurrogate(unit) {
				low, _ := hex4(raw[i+3:])
				unit = utf16.DecodeRune(unit, low)
				i += 6
			}
			dst = utf8.AppendRune(dst, unit)
		default:
			dst = append(dst, raw[i])
		}
	}
	return dst
}

// unescape returns the text of a valid JSON string, given with its quotes. If it has no escapes, the text is part
// of raw.
func unescape(raw []byte) []byte {
	raw = raw[1 : len(raw)-1]
	for _, c := range raw {
		if c == '\\' {
			return appendUnescaped(make([]byte, 0, len(raw)), raw)
		}
	}
	return raw
}
