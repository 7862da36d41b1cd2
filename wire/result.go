package wire

import (
	"strconv"
	"time"

	"github.com/posta-tasks/posta/task"
)

const (
	// MaxShown is the largest result, in bytes, that a record or a final line includes. Of a larger one it has the
	// size, and where to get it.
	MaxShown = 1 << 20
	// pageBytes is the maximal size of the records of a list, which then has fewer tasks. The other members of the
	// line fit beside them into 1 MiB.
	pageBytes = 1<<20 - 1<<10
)

// AppendList appends the result object of a list: the records of the tasks without payload and result, and the
// cursor unless it is empty. If the records are too long together, it has fewer tasks and the matching cursor.
func AppendList(dst []byte, tasks []task.Task, cursor string) []byte {
	start := len(dst)
	dst = append(dst, `{"ok":true,"tasks":[`...)
	for i := range tasks {
		before := len(dst)
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendListed(dst, &tasks[i])
		if len(dst)-start > pageBytes && i > 0 {
			dst, cursor = dst[:before], tasks[i-1].ID
			break
		}
	}
	dst = appendMember(append(dst, ']'), "cursor", cursor)
	return append(dst, '}')
}

// AppendListed appends the record of a task, without payload and result, as a line.
func AppendListed(dst []byte, t *task.Task) []byte { return append(appendListed(dst, t), '\n') }

func appendListed(dst []byte, t *task.Task) []byte {
	listed := *t
	listed.Payload, listed.Result = task.Body{}, task.Body{}
	return append(appendRecord(append(dst, '{'), &listed), '}')
}

// AppendBulk appends the result object of a change by filter.
func AppendBulk(dst []byte, b task.Bulk) []byte {
	dst = append(dst, `{"ok":true`...)
	dst = appendInt(dst, "matched", b.Matched)
	dst = appendInt(dst, "changed", b.Changed)
	dst = appendInt(dst, "cancelling", b.Cancelling)
	return append(appendBool(dst, "more", b.More), '}')
}

// AppendQueues appends the result object of queues.
func AppendQueues(dst []byte, list []task.Queue) []byte {
	dst = append(dst, `{"ok":true,"queues":[`...)
	for i := range list {
		q := &list[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = task.AppendString(append(dst, `{"queue":`...), q.Name)
		dst = appendBool(dst, "paused", q.Paused)
		dst = appendInt(dst, "scheduled", int(q.Scheduled))
		dst = appendInt(dst, "queued", int(q.Queued))
		dst = appendInt(dst, "running", int(q.Running))
		dst = appendInt(dst, "failed", int(q.Failed))
		dst = appendFloat(dst, "oldest_s", max(q.OldestAge, 0).Round(time.Millisecond).Seconds())
		dst = appendFloat(dst, "rate_in", q.RateIn)
		dst = appendFloat(dst, "rate_out", q.RateOut)
		dst = append(appendBool(dst, "unserved", q.Unserved), '}')
	}
	return append(dst, ']', '}')
}

// AppendPaused appends the result object of pause and resume.
func AppendPaused(dst []byte, queue string, paused bool) []byte {
	dst = appendMember(append(dst, `{"ok":true`...), "queue", queue)
	return append(appendBool(dst, "paused", paused), '}')
}

// AppendNodes appends the result object of a list of nodes.
func AppendNodes(dst []byte, list []task.Node) []byte {
	dst = append(dst, `{"ok":true,"nodes":[`...)
	for i := range list {
		n := &list[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = task.AppendString(append(dst, `{"node":`...), n.Name)
		dst = appendInt(dst, "pid", n.PID)
		dst = appendStrings(dst, "actions", n.Actions)
		dst = appendStrings(dst, "queues", n.Queues)
		dst = appendInt(dst, "slots", n.Slots)
		if n.Stuck > 0 {
			dst = appendInt(dst, "stuck", n.Stuck)
		}
		dst = appendMember(dst, "address", n.Address)
		dst = appendTime(dst, "started_at", n.Started)
		dst = append(appendTime(dst, "seen_at", n.Seen), '}')
	}
	return append(dst, ']', '}')
}

// AppendWorkers appends the result object of a list of workers.
func AppendWorkers(dst []byte, list []task.Worker) []byte {
	dst = append(dst, `{"ok":true,"workers":[`...)
	for i := range list {
		w := &list[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendMember(task.AppendString(append(dst, `{"worker":`...), w.Name), "node", w.Node)
		dst = appendStrings(dst, "actions", w.Actions)
		if w.Queues == nil {
			dst = appendStrings(dst, "queues", []string{"*"})
		} else {
			dst = appendStrings(dst, "queues", w.Queues)
		}
		dst = appendInt(appendInt(dst, "slots", w.Slots), "held", w.Held)
		dst = appendTime(appendMember(dst, "version", w.Version), "since", w.Since)
		dst = append(appendBool(appendBool(dst, "stuck", w.Stuck), "quiet", w.Quiet), '}')
	}
	return append(dst, ']', '}')
}

// AppendQuieted appends the result object that says which worker was asked to stop.
func AppendQuieted(dst []byte, worker string) []byte {
	dst = appendMember(append(dst, `{"ok":true`...), "worker", worker)
	return append(appendBool(dst, "quiet", true), '}')
}

// AppendUpload appends the answer to an upload. Its blob is a value for payload_blob.
func AppendUpload(dst []byte, u *task.Upload) []byte {
	dst = task.AppendString(append(dst, `{"blob":{"task":`...), u.Task)
	dst = appendInt(dst, "size", int(u.Body.Size))
	return append(appendMember(dst, "sha256", u.Body.SHA256), '}', '}')
}

// Bare removes the id member from a line that was rendered without an id, for replies that need none: over HTTP,
// the address identifies what a request asks for. It changes the line in place.
func Bare(line []byte) []byte {
	line = line[len(`{"id":null`):]
	line[0] = '{' // where the comma was
	return line
}

func appendBool(dst []byte, name string, value bool) []byte {
	dst = append(append(append(dst, ',', '"'), name...), '"', ':')
	return strconv.AppendBool(dst, value)
}

func appendFloat(dst []byte, name string, value float64) []byte {
	dst = append(append(append(dst, ',', '"'), name...), '"', ':')
	return strconv.AppendFloat(dst, value, 'f', -1, 64)
}

func appendStrings(dst []byte, name string, list []string) []byte {
	dst = append(append(append(dst, ',', '"'), name...), '"', ':', '[')
	for i, text := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = task.AppendString(dst, text)
	}
	return append(dst, ']')
}
