package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// payloadHelp explains PAYLOAD, for the help of each verb that has one.
const payloadHelp = `A PAYLOAD is JSON, or a string if it is not valid JSON. @file reads it from a file,
@- from stdin.`

// readPayload returns the JSON of the PAYLOAD in the command line, or nil if there is none.
func readPayload(out *terminal.Outside, word string) ([]byte, error) {
	text := []byte(word)
	if file, found := strings.CutPrefix(word, "@"); found {
		var err error
		if text, err = readPayloadFile(out, file); err != nil {
			return nil, err
		}
	}
	if wire.Valid(text) == nil {
		return compact(text), nil
	}
	if json.Valid(text) {
		// To encode it as a string would hide a mistake, such as a duplicate key.
		return nil, misuse("duplicate keys, lone surrogates and nesting beyond 64 are refused", "the payload is refused: %w", wire.Valid(text))
	}
	if !utf8.Valid(text) {
		return nil, misuse("encode bytes, for example with base64", "the payload is neither JSON nor UTF-8 text")
	}
	if len(text) > 0 && (text[0] == '{' || text[0] == '[') {
		out.Talk("posta: hint: the payload is not JSON, so it is sent as a string")
	}
	return task.AppendString(nil, string(text)), nil
}

// readPayloadFile reads a payload from a file. It refuses a file that does not fit on a line.
func readPayloadFile(out *terminal.Outside, path string) ([]byte, error) {
	source := out.Stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, misuse(`a payload that begins with @ names a file; write the string as JSON to send it: '"@…"'`, "%w", err)
		}
		defer file.Close()
		source = file
	}
	text, err := io.ReadAll(io.LimitReader(source, task.DefaultLine+1))
	if err != nil {
		return nil, err
	}
	if len(text) > task.DefaultLine {
		return nil, misuse("upload it with `PUT /v1/blobs`, and enqueue a task with the reply as its payload_blob: docs/http.md, Large bodies",
			"the payload in %s is larger than 1 MiB, the most that a line holds", path)
	}
	return text, nil
}

// compact removes the line breaks from JSON, since a task is one line. It does not change JSON on one line.
func compact(text []byte) []byte {
	text = bytes.TrimSpace(text)
	if !bytes.ContainsAny(text, "\r\n") {
		return text
	}
	var buffer bytes.Buffer
	if err := json.Compact(&buffer, text); err != nil {
		return text
	}
	return buffer.Bytes()
}
