package actions

import (
	"bytes"
	"encoding/json"
)

// AppendData appends `"data":…` for the output of a program or a server: the output itself
// if it is JSON, else the output as a string. Bytes that are no UTF-8 become U+FFFD.
func AppendData(dst, output []byte) []byte {
	dst = append(dst, `"data":`...)
	var compact bytes.Buffer
	if json.Compact(&compact, output) == nil && compact.Len() > 0 { // a result has no line break
		return append(dst, bytes.ToValidUTF8(compact.Bytes(), []byte("\uFFFD"))...)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(string(output)) != nil { // a string always has a JSON form
		return append(dst, `""`...)
	}
	return append(dst, bytes.TrimRight(text.Bytes(), "\n")...)
}
