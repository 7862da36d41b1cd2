package cli

import (
	"bytes"

	"github.com/posta-tasks/posta/task"
)

// The judges read reply lines for a load. They return the id of the task that the line answers, and why the task
// failed. Without an id, another line will answer the task. A refusal is an error.

// Judge is the judge for tasks that run at once.
func (t *target) Judge(line []byte) (id []byte, fault string, err error) {
	if id, ok := succeeded(line); ok {
		return id, "", nil
	}
	return t.judge(line)
}

// JudgeAccepted is the judge for durable tasks whose acceptance is enough.
func (t *target) JudgeAccepted(line []byte) (id []byte, fault string, err error) {
	if id, ok := accepted(line); ok {
		return id, "", nil
	}
	return t.judge(line)
}

// JudgeEnd is the judge for durable tasks whose end counts.
func (t *target) JudgeEnd(line []byte) (id []byte, fault string, err error) {
	if _, ok := accepted(line); ok {
		return nil, "", nil
	}
	if id, ok := ended(line); ok {
		return id, "", nil
	}
	return t.judge(line)
}

// judge decodes a line that was not recognised.
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

// acceptMark and endMark follow the id in the usual lines of an accepted and of a done durable task.
var (
	acceptMark = []byte(`,"status":"queued","task":"`)
	endMark    = []byte(`,"status":"done","task":"`)
	goodMark   = []byte(`","result":{"ok":true`)
)

// accepted recognises the usual reply to an enqueue and returns its id.
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
