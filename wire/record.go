package wire

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/posta-tasks/posta/task"
)

// timeLayout is the format of times on the wire: UTC, RFC 3339, milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

// AppendAccepted appends the line that reports the state of a new task. warning may be empty.
func AppendAccepted(dst, id []byte, t *task.Task, duplicate bool, warning string) []byte {
	dst = appendTaskHead(appendID(dst, id), t.State, t.ID)
	if t.State == task.Scheduled {
		dst = appendTime(dst, "run_at", t.RunAt)
	}
	if duplicate {
		dst = append(dst, `,"duplicate":true`...)
	}
	dst = appendMember(dst, "warning", warning)
	return append(dst, '}', '\n')
}

// AppendFinal appends the final line of a finished task. seq is that of its last entry; with it, the line says when
// the task ended. A seq of 0 and a duplicate of false are left out.
func AppendFinal(dst, id []byte, t *task.Task, seq int, duplicate bool) []byte {
	dst = appendTaskHead(appendID(dst, id), t.State, t.ID)
	dst = appendOutcome(dst, t)
	dst = appendInt(dst, "attempt", t.Attempt)
	if seq > 0 {
		dst = appendTime(appendInt(dst, "seq", seq), "at", t.FinishedAt)
	}
	if duplicate {
		dst = append(dst, `,"duplicate":true`...)
	}
	return append(dst, '}', '\n')
}

// AppendEntry appends the line of an entry of the history. retried marks the end of a task that was retried
// afterwards, so that more lines follow.
func AppendEntry(dst, id []byte, name string, entry *task.Entry) []byte {
	dst = appendTaskHead(appendID(dst, id), entry.State, name)
	dst = appendInt(dst, "attempt", entry.Attempt)
	dst = appendInt(dst, "seq", entry.Seq)
	dst = appendTime(dst, "at", entry.At)
	dst = appendMember(dst, "node", entry.Node)
	dst = appendMember(dst, "worker", entry.Worker)
	dst = appendMember(dst, "definition", entry.Definition)
	dst = appendMember(dst, "error", entry.Error)
	if entry.State.Final() {
		dst = append(dst, `,"retried":true`...)
	}
	return append(dst, '}', '\n')
}

// AppendProgress appends the line of the progress that a running task reports.
func AppendProgress(dst, id []byte, name string, attempt int, p task.Progress) []byte {
	dst = appendTaskHead(appendID(dst, id), task.Running, name)
	dst = appendInt(dst, "attempt", attempt)
	return append(appendProgress(dst, p), '}', '\n')
}

// AppendRecord appends the whole record of a task as a line. If the task has a payload, the record includes it, or
// says where to get it.
func AppendRecord(dst, id []byte, t *task.Task) []byte {
	dst = appendID(dst, id)
	dst = append(dst, ',')
	return append(appendRecord(dst, t), '}', '\n')
}

// AppendState appends the answer to a cancel or a retry of one task. A task that was asked to stop and has not
// stopped yet is cancelling. The answer to a retry includes the generation.
func AppendState(dst, id []byte, t *task.Task, retried bool) []byte {
	dst = append(appendID(dst, id), `,"status":"`...)
	if t.Cancelling && !retried {
		dst = append(dst, "cancelling"...)
	} else {
		dst = append(dst, t.State...)
	}
	dst = append(dst, `","task":`...)
	dst = task.AppendString(dst, t.ID)
	if retried {
		dst = appendInt(dst, "generation", t.Generation)
	}
	return append(dst, '}', '\n')
}

func appendTaskHead(dst []byte, state task.State, name string) []byte {
	dst = append(append(dst, `,"status":"`...), state...)
	return task.AppendString(append(dst, `","task":`...), name)
}

// appendOutcome appends the result of a done task, or the error and code of a failed one. For a task that waits for
// another attempt these describe its last failed attempt.
func appendOutcome(dst []byte, t *task.Task) []byte {
	switch {
	case t.State == task.Done && t.Result.Inline != nil:
		return append(append(dst, `,"result":`...), t.Result.Inline...)
	case t.State == task.Done && t.Result.IsBlob():
		dst = append(dst, `,"result":{"ok":true,"blob":`...)
		return append(appendBlob(dst, t.Result, "/v1/tasks/"+t.ID+"/result"), '}', '}')
	case t.State == task.Failed, (t.State == task.Scheduled || t.State == task.Queued) && t.Error != "":
		dst = append(dst, `,"error":`...)
		dst = task.AppendString(dst, t.Error)
		return appendMember(dst, "code", string(t.Code))
	}
	return dst
}

// appendBlob appends the description of a body that is not included, without the closing brace.
func appendBlob(dst []byte, b task.Body, href string) []byte {
	dst = append(dst, `{"size":`...)
	dst = strconv.AppendInt(dst, b.Size, 10)
	return appendMember(appendMember(dst, "sha256", b.SHA256), "href", href)
}

// appendRecord appends the members of a record without braces.
func appendRecord(dst []byte, t *task.Task) []byte {
	dst = append(append(dst, `"status":"`...), t.State...)
	dst = task.AppendString(append(dst, `","task":`...), t.ID)
	dst = appendMember(dst, "queue", t.Queue)
	dst = appendMember(dst, "action", t.Action)
	dst = appendInt(dst, "attempt", t.Attempt)
	dst = appendInt(dst, "max_attempts", t.MaxAttempts)
	dst = appendFloat(dst, "timeout", t.Timeout.Seconds())
	dst = appendInt(dst, "generation", t.Generation)
	dst = appendMember(dst, "priority", t.Priority.String())
	dst = appendTime(dst, "created_at", t.CreatedAt)
	dst = appendTime(dst, "run_at", t.RunAt)
	dst = appendTime(dst, "started_at", t.StartedAt)
	dst = appendTime(dst, "finished_at", t.FinishedAt)
	dst = appendMember(dst, "node", t.Node)
	dst = appendMember(dst, "worker", t.Worker)
	dst = appendMember(dst, "owner", t.Owner)
	if t.State == task.Running && t.Progress != (task.Progress{}) {
		dst = appendProgress(dst, t.Progress)
	}
	if t.Cancelling {
		dst = append(dst, `,"cancelling":true`...)
	}
	dst = appendMember(dst, "key", t.Key)
	dst = appendMeta(dst, t.Meta)
	dst = appendMember(dst, "warning", t.Warning)
	switch {
	case t.Payload.Inline != nil:
		dst = append(append(dst, `,"payload":`...), t.Payload.Inline...)
	case t.Payload.IsBlob():
		dst = append(appendBlob(append(dst, `,"payload_blob":`...), t.Payload, "/v1/tasks/"+t.ID+"/payload"), '}')
	}
	return appendOutcome(dst, t)
}

func appendMeta(dst []byte, meta map[string]string) []byte {
	if len(meta) == 0 {
		return dst
	}
	dst = append(dst, `,"meta":`...)
	separator := byte('{')
	for _, name := range slices.Sorted(maps.Keys(meta)) {
		dst = task.AppendString(append(dst, separator), name)
		dst = task.AppendString(append(dst, ':'), meta[name])
		separator = ','
	}
	return append(dst, '}')
}

func appendProgress(dst []byte, p task.Progress) []byte {
	dst = append(dst, `,"progress":{"percent":`...)
	dst = strconv.AppendFloat(dst, p.Percent, 'f', -1, 64)
	return append(appendMember(dst, "message", p.Message), '}')
}

func appendInt(dst []byte, name string, value int) []byte {
	dst = append(append(append(dst, ',', '"'), name...), '"', ':')
	return strconv.AppendInt(dst, int64(value), 10)
}

// appendTime appends a time, unless it is the zero time. It replaces a time that RFC 3339 cannot express by the
// nearest one that it can; an older release accepted such times.
func appendTime(dst []byte, name string, at time.Time) []byte {
	if at.IsZero() {
		return dst
	}
	switch year := at.UTC().Year(); {
	case year < 1:
		at = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	case year > 9999:
		at = time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)
	}
	dst = append(append(append(dst, ',', '"'), name...), '"', ':', '"')
	return append(at.UTC().AppendFormat(dst, timeLayout), '"')
}
