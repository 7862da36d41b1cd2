package wire

import (
	"strconv"
	"time"

	"github.com/posta-tasks/posta/task"
)

// appendID appends the beginning of a reply, with the id of the request.
func appendID(dst, id []byte) []byte {
	dst = append(dst, `{"id":`...)
	if id == nil {
		return append(dst, "null"...)
	}
	return append(dst, id...)
}

// AppendDone appends the reply of a task that ran. result is the whole result object.
func AppendDone(dst, id, result []byte) []byte {
	dst = appendID(dst, id)
	dst = append(dst, `,"status":"done","result":`...)
	dst = append(dst, result...)
	return append(dst, '}', '\n')
}

// AppendError appends an error reply.
func AppendError(dst, id []byte, e *task.Error) []byte {
	dst = appendID(dst, id)
	dst = append(dst, `,"status":"error","code":`...)
	dst = task.AppendString(dst, string(e.Code))
	dst = append(dst, `,"error":`...)
	dst = task.AppendString(dst, e.Message)
	dst = appendMember(dst, "detail", e.Detail)
	dst = appendMember(dst, "field", e.Field)
	dst = appendMember(dst, "limit", e.Limit)
	dst = appendMember(dst, "task", e.Task)
	dst = appendMember(dst, "state", e.State)
	if e.RetryAfter > 0 {
		dst = appendSeconds(dst, e.RetryAfter)
	}
	return append(dst, '}', '\n')
}

// AppendCancelling appends the reply to the cancel of a run.
func AppendCancelling(dst, id []byte) []byte {
	return append(appendID(dst, id), `,"status":"cancelling"}`+"\n"...)
}

// AppendGoaway appends the line that asks a client to disconnect. It is no reply to a request.
func AppendGoaway(dst []byte, code task.Code, retryAfter time.Duration) []byte {
	dst = append(dst, `{"id":null,"status":"goaway","code":`...)
	dst = task.AppendString(dst, string(code))
	dst = appendSeconds(dst, retryAfter)
	return append(dst, '}', '\n')
}

func appendMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, ',')
	dst = task.AppendString(dst, name)
	dst = append(dst, ':')
	return task.AppendString(dst, value)
}

func appendSeconds(dst []byte, d time.Duration) []byte {
	dst = append(dst, `,"retry_after":`...)
	return strconv.AppendFloat(dst, d.Seconds(), 'f', -1, 64)
}
