package actions

import (
	"context"
	"encoding/json"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// upper answers with the payload in upper case, by the rules of Unicode and of
// no language in particular:
//
//	"hola"   → {"ok":true,"data":"HOLA"}
//	"straße" → {"ok":true,"data":"STRASSE"}
//
// A payload that is no string is upper-cased as its JSON text, as it was sent:
//
//	{"a": 1} → {"ok":true,"data":"{\"A\": 1}"}
//	null     → {"ok":true,"data":"NULL"}
func upper() Action {
	// A Caser must not be shared between goroutines, and costs more to make
	// than to use.
	u := &upperCaser{casers: sync.Pool{New: func() any {
		caser := cases.Upper(language.Und)
		return &caser
	}}}
	return Action{Name: "upper", Append: u.append, Quick: true}
}

type upperCaser struct{ casers sync.Pool }

func (u *upperCaser) append(_ context.Context, call *Call, dst []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, `"data":`...)
	dst, plain := appendUpperASCII(dst, call.Payload)
	if plain {
		return dst, nil
	}
	text := string(call.Payload)
	if call.Payload[0] == '"' {
		if err := json.Unmarshal(call.Payload, &text); err != nil {
			return dst[:start], err
		}
	}
	caser := u.casers.Get().(*cases.Caser)
	text = caser.String(text)
	u.casers.Put(caser)
	return appendString(append(dst[:start], `"data":`...), text), nil
}

// appendUpperASCII appends the upper case of a JSON text as a JSON string, when
// it is ASCII and has no escape that stands for a letter; otherwise plain is
// false, and what was appended is worthless. It is the common case, and needs
// neither decoding nor an allocation.
func appendUpperASCII(dst, payload []byte) (_ []byte, plain bool) {
	if len(payload) < 2 || payload[0] != '"' {
		return appendUpperText(dst, payload)
	}
	escaped := false
	for _, c := range payload {
		switch {
		case escaped:
			// The letter of an escape is no letter: \n is not \N. Only \u
			// can stand for one.
			if c == 'u' {
				return dst, false
			}
			escaped = false
		case c >= utf8.RuneSelf:
			return dst, false
		case c == '\\':
			escaped = true
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst, true
}

// appendUpperText does the same for a text that is no string: it puts quotes
// around it and escapes what must be.
func appendUpperText(dst, payload []byte) (_ []byte, plain bool) {
	dst = append(dst, '"')
	for _, c := range payload {
		switch {
		case c >= utf8.RuneSelf || c < ' ':
			return dst, false
		case c == '"' || c == '\\':
			dst = append(dst, '\\')
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return append(dst, '"'), true
}

// appendString appends text as a JSON string, escaping no more than JSON asks
// for, so that the reply stays readable.
func appendString(dst []byte, text string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
