package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/posta-tasks/posta/task"
)

// lineReply has the members of a reply line that the command line needs.
type lineReply struct {
	ID     json.RawMessage `json:"id"`
	Status string          `json:"status"`
	Result json.RawMessage `json:"result"`
	Code   string          `json:"code"`
	Error  string          `json:"error"`
	Detail string          `json:"detail"`
	Retry  float64         `json:"retry_after"`
}

// readReply decodes a reply line.
func readReply(line []byte) (*lineReply, error) {
	r := &lineReply{}
	if err := json.Unmarshal(line, r); err != nil {
		return nil, fmt.Errorf("the reply is no JSON: %w", err)
	}
	return r, nil
}

// Fault returns why a reply is not a success, or "" if it is one.
func (r *lineReply) Fault() string {
	if r.Refused() {
		if r.Detail != "" {
			return r.Code + ": " + r.Error + " (" + r.Detail + ")"
		}
		return r.Code + ": " + r.Error
	}
	if r.failed() {
		return strings.TrimSuffix(r.Status+": "+r.Code+": "+r.Error, ": : ")
	}
	if r.Result == nil {
		return ""
	}
	var result struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal(r.Result, &result); err != nil {
		return "the result is not an object with ok"
	}
	if result.OK {
		return ""
	}
	return result.Error
}

// Refusal returns the error of a reply that is not the result of a task.
func (r *lineReply) Refusal() error {
	e := &task.Error{
		Code: task.Code(r.Code), Message: r.Error, Detail: r.Detail,
		RetryAfter: time.Duration(r.Retry * float64(time.Second)),
	}
	return fail(exitFailed, refusalHint(e), "%w", e)
}

// Refused returns the error for a task that has not run: the reply refuses the task, or the whole connection.
func (r *lineReply) Refused() bool { return r.Status == "error" || r.Status == "goaway" }

// doneMark follows the id in the reply of a task that succeeded, as nodes write it.
var doneMark = []byte(`,"status":"done","result":{"ok":true`)

// succeeded recognises the usual reply of a task that succeeded without decoding it, and returns its id. A reply
// that it does not recognise may be a success too; use readReply.
func succeeded(line []byte) (id []byte, ok bool) { return marked(line, doneMark) }

// endOfID returns where the id at the beginning of text ends.
func endOfID(text []byte) int {
	if len(text) == 0 || text[0] != '"' {
		return max(bytes.IndexByte(text, ','), 0)
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}
