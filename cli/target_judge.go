package cli

import (
	"bytes"

	"github.com/posta-tasks/posta/task"
)

// The judges look at a reply line for a load: they give the id of the task that it answers,
// and why it failed, or no id when another line will answer it. A refusal is an error.

// Judge is for tasks that run at once.
func (t *target) Judge(line []byte) (id []byte, fault string, err error) {
	if id, ok := succeeded(line); ok {
		return id, "", nil
	}
	return t.judge(line)
}

// JudgeAccepted is for durable tasks of which only the acceptance counts.
func (t *target) JudgeAccepted(line []byte) (id []byte, fault string, err error) {
	if id, ok := accepted(line); ok {
		return id, "", nil
	}
	return t.judge(line)
}

// JudgeEnd is for durable tasks that are waited for.
func (t *target) JudgeEnd(line []byte) (id []byte, fault string, err error) {
	if _, ok := accepted(line); ok {
		return nil, "", nil
	}
	if id, ok := ended(line); ok {
		return id, "", nil
	}
	return t.judge(line)
}

// judge decodes what was not recognised.
func (t *target) judge(line []byte) (id []byte, fault string, err error) {
	r, err := readReply(line)
	if err != nil {
		return nil, "", t.Strange(line)
	}
	if r.Refused() {
		return nil, "", r.Refusal()
	}
	return r.ID, r.Fault(), nil
}

// acceptMark and endMark follow the id of a durable task that was accepted, or is done.
var (
	acceptMark = []byte(`,"status":"queued","task":"`)
	endMark    = []byte(`,"status":"done","task":"`)
	goodMark   = []byte(`","result":{"ok":true`)
)

// accepted recognises the usual reply to an enqueue, and gives its id.
func accepted(line []byte) (id []byte, ok bool) { return marked(line, acceptMark) }

// ended recognises the usual last line of a durable task.
func ended(line []byte) (id []byte, ok bool) {
	id, ok = marked(line, endMark)
	return id, ok && bytes.Contains(line, goodMark)
}

// marked returns the id of a line if mark follows it.
func marked(line, mark []byte) (id []byte, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"id":`))
	if !ok {
		return nil, false
	}
	end := endOfID(rest)
	return rest[:end], bytes.HasPrefix(rest[end:], mark)
}

// failed reports whether a durable task ended without a result.
func (r *lineReply) failed() bool {
	return r.Status == string(task.Failed) || r.Status == string(task.Cancelled)
}
