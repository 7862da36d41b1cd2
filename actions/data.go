package actions

import (
	"bytes"
	"encoding/json"

	"github.com/posta-tasks/posta/wire"
)

// AppendData appends `"data":…` for the output of a program or a server: the output itself if it is JSON by the strict
// rules of the line protocol, else the output as a string. A client refuses a reply with duplicate keys, half a
// surrogate pair or deep nesting. Bytes that are not UTF-8 become U+FFFD.
func AppendData(dst, output []byte) []byte {
	dst = append(dst, `"data":`...)
	var compact bytes.Buffer
	if json.Compact(&compact, output) == nil && compact.Len() > 0 { // a result has no line break
		if valid := bytes.ToValidUTF8(compact.Bytes(), []byte("\uFFFD")); wire.Valid(valid) == nil {
			return append(dst, valid...)
		}
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(string(output)) != nil { // a string always has a JSON form
		return append(dst, `""`...)
	}
	return append(dst, bytes.TrimRight(text.Bytes(), "\n")...)
}
