package actions

import (
	"context"
	"encoding/json"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"

	"github.com/posta-tasks/posta/task"
)

// upper returns the payload in upper case, by the language-independent rules of
// Unicode:
//
//	"hola"   → {"ok":true,"data":"HOLA"}
//	"straße" → {"ok":true,"data":"STRASSE"}
//
// If the payload is not a string, upper returns its JSON text in upper case:
//
//	{"a": 1} → {"ok":true,"data":"{\"A\": 1}"}
//	null     → {"ok":true,"data":"NULL"}
func upper() Action {
	// A Caser is not safe for concurrent use, and costs more to make than to use.
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
	return task.AppendString(append(dst[:start], `"data":`...), text), nil
}

// appendUpperASCII appends a JSON text in upper case as a JSON string. plain is false if
// the text is not ASCII or has an escape that may stand for a letter; then discard what was
// appended. This common case needs neither decoding nor an allocation.
func appendUpperASCII(dst, payload []byte) (_ []byte, plain bool) {
	if len(payload) < 2 || payload[0] != '"' {
		return appendUpperText(dst, payload)
	}
	escaped := false
	for _, c := range payload {
		switch {
		case escaped:
			// The letter of an escape stays: \n is not \N. Only \u can stand for a
			// letter.
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

// appendUpperText does the same for a JSON text that is not a string: it quotes and
// escapes the text.
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
