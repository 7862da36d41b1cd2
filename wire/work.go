package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Bounds of the values of workers' ops.
const (
	maxWorkNames = 256  // actions or queues of a worker
	maxWorker    = 128  // bytes of a worker's name and of its version
	maxLease     = 128  // bytes of a lease
	maxSlots     = 1024 // slots of a worker, and leases in its hold
	maxFence     = 10   // digits
	maxGrace     = time.Minute
	maxPercent   = 100
	maxPoll      = time.Minute // that a poll may wait
	defaultPoll  = 30 * time.Second
	minLease     = 5 * time.Second // of the leases of workers without a connection
	maxLeaseTime = time.Hour
	defaultLease = time.Minute
	// DefaultGrace is how long a node waits for a worker whose connection has ended, unless the worker says otherwise.
	DefaultGrace = 5 * time.Second
)

// Work is the fields of the ops that workers send. Its slices alias the line, its strings do not.
type Work struct {
	Lease      []byte // TASK.FENCE or TASK.FENCE.SIGNATURE
	Data       []byte // raw JSON; nil when absent
	DataBlob   []byte // raw JSON object
	Error      string
	Retry      bool
	RetryAfter time.Duration // task.Zero for 0, and 0 when absent
	Percent    float64
	Message    string
	Of         []byte // raw JSON: the id of the work request that slots and leave are about

	Actions    []string
	Queues     []string // nil: every queue
	Slots      int
	Worker     string
	Version    string
	Hold       []string
	Grace      time.Duration
	Idempotent []string

	// Of workers without a connection.
	Wait      time.Duration // that a poll may last; task.Zero for 0
	LeaseTime time.Duration // how long a lease lasts
	Leases    []string
}

// readLease checks that a lease has the form of one.
func readLease(r *Request, raw []byte) *task.Error {
	if raw[0] == '"' {
		if lease := unescape(raw); IsLease(lease) {
			r.Work.Lease = lease
			return nil
		}
	}
	return refuseLease("lease")
}

func refuseLease(field string) *task.Error {
	return task.RefuseField(task.InvalidRequest, field, "%s must be the lease of a push, such as 01JE8Q.1", field)
}

// IsLease reports whether a text has the form of a lease: letters and digits, a full stop, digits, and perhaps another full
// stop with letters and digits.
func IsLease[T string | []byte](lease T) bool {
	if len(lease) > maxLease {
		return false
	}
	id, fence, _ := strings.Cut(string(lease), ".")
	fence, signature, signed := strings.Cut(fence, ".")
	return isPlain(id) && (!signed || isPlain(signature)) && fence != "" && len(fence) <= maxFence && strings.Trim(fence, "0123456789") == ""
}

// isPlain reports whether a text has letters, digits, _ and - only, at least one.
func isPlain(text string) bool {
	for _, c := range []byte(text) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return text != ""
}

func readError(r *Request, raw []byte) *task.Error {
	if raw[0] != '"' {
		return task.RefuseField(task.InvalidRequest, "error", "error must be a string")
	}
	r.Work.Error = task.CleanText(string(unescape(raw)))
	return nil
}

func readMessage(r *Request, raw []byte) *task.Error {
	if raw[0] != '"' {
		return task.RefuseField(task.InvalidRequest, "message", "message must be a string")
	}
	r.Work.Message = task.CleanText(string(unescape(raw)))
	return nil
}

func readPercent(r *Request, raw []byte) *task.Error {
	value, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.IsNaN(value) || value < 0 || value > maxPercent {
		return task.RefuseField(task.InvalidRequest, "percent", "percent must be a number from 0 to %d", maxPercent)
	}
	r.Work.Percent = value
	return nil
}

// readWork keeps the id of a work request as it was sent.
func readWork(r *Request, raw []byte) *task.Error {
	if raw[0] != '"' && raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') || len(raw) > task.MaxID+2 {
		return task.RefuseField(task.InvalidRequest, "work", "work must be the id of a work request of this connection")
	}
	r.Work.Of = raw
	return nil
}

// readSlots reads a number of slots. With op slots it may be 0, so that nothing more is pushed.
func readSlots(r *Request, raw []byte) *task.Error {
	least := 1
	if r.Op == OpSlots {
		least = 0
	}
	return integer(&r.Work.Slots, raw, bounds{"slots", least, maxSlots})
}

func readQueues(r *Request, raw []byte) *task.Error {
	r.Work.Queues = []string{}
	return list(raw, bounds{"queues", 1, maxWorkNames}, func(item []byte) *task.Error {
		var queue string
		refusal := text(&queue, item, bounds{"queues", 1, task.MaxQueue})
		if refusal == nil {
			refusal = task.CheckQueue(queue)
		}
		r.Work.Queues = append(r.Work.Queues, queue)
		return refusal
	})
}

func readHold(r *Request, raw []byte) *task.Error { return leaseNames(&r.Work.Hold, raw, "hold") }

// leaseNames reads a list of leases.
func leaseNames(to *[]string, raw []byte, field string) *task.Error {
	return list(raw, bounds{field, 0, maxSlots}, func(item []byte) *task.Error {
		if item[0] != '"' {
			return refuseLease(field)
		}
		lease := unescape(item)
		if !IsLease(lease) {
			return refuseLease(field)
		}
		*to = append(*to, string(lease))
		return nil
	})
}

// readLeaseTime reads how long the leases of a worker without a connection last.
func readLeaseTime(r *Request, raw []byte) *task.Error {
	value, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || value < minLease.Seconds() || value > maxLeaseTime.Seconds() {
		return task.RefuseField(task.InvalidRequest, "lease_s", "lease_s must be a number of seconds from %g to %g", minLease.Seconds(), maxLeaseTime.Seconds())
	}
	r.Work.LeaseTime = time.Duration(value * float64(time.Second))
	return nil
}

// actionNames reads a list of actions.
func actionNames(to *[]string, raw []byte, field string) *task.Error {
	return list(raw, bounds{field, 1, maxWorkNames}, func(item []byte) *task.Error {
		var action string
		refusal := name(&action, item, bounds{field, 1, task.MaxAction})
		*to = append(*to, action)
		return refusal
	})
}

// list reads an array whose length is within bounds.
func list(raw []byte, b bounds, read func(item []byte) *task.Error) *task.Error {
	if raw[0] != '[' {
		return task.RefuseField(task.InvalidRequest, b.field, "%s must be an array", b.field)
	}
	var refusal *task.Error
	s := scanner{data: raw}
	n := 0
	s.items(1, func(item []byte) bool {
		if n++; n <= b.most {
			refusal = read(item)
		}
		return refusal == nil && n <= b.most
	})
	switch {
	case refusal != nil:
		refusal.Field = b.field
		return refusal
	case n < b.least || n > b.most:
		return task.RefuseField(task.InvalidRequest, b.field, "%s must have %d to %d items", b.field, b.least, b.most)
	}
	return nil
}

// AppendReady appends the answer to a work request. Held and lost are the leases that it named; nil leaves them out.
func AppendReady(dst, id []byte, worker, node string, slots int, held, lost []string) []byte {
	dst = append(appendID(dst, id), `,"status":"ready","worker":`...)
	dst = task.AppendString(dst, worker)
	dst = appendInt(appendMember(dst, "node", node), "slots", slots)
	if held != nil || lost != nil {
		dst = appendStrings(appendStrings(dst, "held", held), "lost", lost)
	}
	return append(dst, '}', '\n')
}

// Push is a task as a worker receives it.
type Push struct {
	Lease   string
	Task    *task.Task // of a durable task, with the number of this attempt; nil: the push is a direct run
	Action  string
	Timeout time.Duration
	Payload []byte // raw JSON, valid until AppendPush returns; nil: null, or in blob storage
}

// AppendPush appends the line that gives a task to a worker. The payload stands last.
func AppendPush(dst, id []byte, p *Push) []byte {
	dst = append(appendID(dst, id), `,"status":"running",`...)
	return append(appendPushed(dst, p), '\n')
}

// AppendPolled appends a task as the answer to a poll has it: a push without id and status.
func AppendPolled(dst []byte, p *Push) []byte { return appendPushed(append(dst, '{'), p) }

// appendPushed appends the members of a push, and the end of the object.
func appendPushed(dst []byte, p *Push) []byte {
	dst = task.AppendString(append(dst, `"lease":`...), p.Lease)
	if t := p.Task; t != nil {
		dst = appendMember(dst, "task", t.ID)
		dst = appendInt(dst, "attempt", t.Attempt)
		dst = appendMember(dst, "queue", t.Queue)
		dst = appendMember(dst, "priority", t.Priority.String())
		dst = appendMember(dst, "key", t.Key)
		dst = appendMeta(dst, t.Meta)
	}
	dst = appendMember(dst, "action", p.Action)
	dst = appendFloat(dst, "timeout", p.Timeout.Seconds())
	switch {
	case p.Payload != nil:
		dst = appendOneLine(append(dst, `,"payload":`...), p.Payload)
	case p.Task != nil && p.Task.Payload.IsBlob():
		dst = append(dst, `,"payload_blob":`...)
		dst = append(appendBlob(dst, p.Task.Payload, "/v1/tasks/"+p.Task.ID+"/payload"), '}')
	default:
		dst = append(dst, `,"payload":null`...)
	}
	return append(dst, '}')
}

// appendOneLine appends JSON without line breaks, which bodies of HTTP requests may have.
func appendOneLine(dst, text []byte) []byte {
	if bytes.IndexByte(text, '\n') < 0 {
		return append(dst, text...)
	}
	var line bytes.Buffer
	if json.Compact(&line, text) != nil {
		return append(dst, "null"...)
	}
	return append(dst, line.Bytes()...)
}

// AppendStop appends the line that asks a worker to stop an attempt. The code is cancelled, timed_out or lost.
func AppendStop(dst, id []byte, lease string, code task.Code) []byte {
	dst = append(appendID(dst, id), `,"status":"cancelling"`...)
	dst = appendMember(appendMember(dst, "lease", lease), "code", string(code))
	return append(dst, '}', '\n')
}

// AppendEnded appends the answer to the outcome of an attempt: the state of its task. Without a task, it was a direct run.
func AppendEnded(dst, id []byte, lease string, state task.State, t *task.Task) []byte {
	dst = append(append(appendID(dst, id), `,"status":"`...), state...)
	dst = appendMember(append(dst, '"'), "lease", lease)
	if t != nil {
		dst = appendMember(dst, "task", t.ID)
		dst = appendInt(dst, "attempt", t.Attempt)
		if state == task.Scheduled {
			dst = appendTime(dst, "run_at", t.RunAt)
		}
	}
	return append(dst, '}', '\n')
}

// AppendLeft appends the last line of the stream of a worker that has left, with the number of leases that it gave back.
func AppendLeft(dst, id []byte, released int) []byte {
	dst = append(appendID(dst, id), `,"status":"done","result":{"ok":true,"released":`...)
	return append(strconv.AppendInt(dst, int64(released), 10), '}', '}', '\n')
}

// AppendLeaseError appends the refusal of a line about a lease.
func AppendLeaseError(dst, id []byte, lease string, e *task.Error) []byte {
	dst = AppendError(dst, id, e)
	if lease == "" {
		return dst
	}
	dst = appendMember(dst[:len(dst)-2], "lease", lease)
	return append(dst, '}', '\n')
}

// AppendPoll appends the answer to a poll. tasks are those of AppendPolled.
func AppendPoll(dst []byte, worker string, tasks [][]byte) []byte {
	dst = append(task.AppendString(append(dst, `{"worker":`...), worker), `,"tasks":[`...)
	for i, one := range tasks {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, one...)
	}
	return append(dst, ']', '}', '\n')
}

// AppendBeat appends the answer to a beat.
func AppendBeat(dst []byte, cancelling, lost []string) []byte {
	dst = appendStrings(append(dst, `{"ok":true`...), "cancelling", cancelling)
	return append(appendStrings(dst, "lost", lost), '}', '\n')
}
