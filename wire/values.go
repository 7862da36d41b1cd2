package wire

import (
	"bytes"
	"strconv"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Limits of the values of durable ops.
const (
	maxTime   = 64      // bytes of a time
	maxKey    = 256     // bytes of an idempotency key
	maxTaskID = 64      // bytes of a task id
	maxCursor = 1 << 10 // bytes of a cursor
	maxList   = 200     // tasks of one page
	maxFilter = 10_000  // tasks of one bulk change
)

// fieldReaders has a function for each field that checks its value and stores it.
var fieldReaders = [fieldCount]func(r *Request, raw []byte) *task.Error{
	fieldAction:      readAction,
	fieldPayload:     readPayload,
	fieldTimeout:     readTimeout,
	fieldToken:       readToken,
	fieldPayloadBlob: func(r *Request, raw []byte) *task.Error { return object(&r.Options.PayloadBlob, raw, "payload_blob") },
	fieldQueue:       readQueue,
	fieldDelay: func(r *Request, raw []byte) *task.Error {
		return seconds(&r.Options.Delay, raw, period{"delay", task.MaxSpan})
	},
	fieldRunAt:    func(r *Request, raw []byte) *task.Error { return moment(&r.Options.RunAt, raw, "run_at") },
	fieldExpires:  readExpires,
	fieldPriority: readPriority,
	fieldMaxAttempts: func(r *Request, raw []byte) *task.Error {
		return integer(&r.Options.MaxAttempts, raw, bounds{"max_attempts", 1, task.MaxAttempts})
	},
	fieldBackoff: func(r *Request, raw []byte) *task.Error {
		return seconds(&r.Options.Backoff, raw, period{"backoff", task.MaxBackoff})
	},
	fieldBackoffMax: func(r *Request, raw []byte) *task.Error {
		return seconds(&r.Options.BackoffMax, raw, period{"backoff_max", task.MaxBackoff})
	},
	fieldKey: readKey,
	fieldKeep: func(r *Request, raw []byte) *task.Error {
		return seconds(&r.Options.Keep, raw, period{"keep", task.MaxSpan})
	},
	fieldKeepFailed: func(r *Request, raw []byte) *task.Error {
		return seconds(&r.Options.KeepFailed, raw, period{"keep_failed", task.MaxSpan})
	},
	fieldMeta: readMeta,
	fieldWait: func(r *Request, raw []byte) *task.Error {
		if r.Op == OpPoll {
			return seconds(&r.Work.Wait, raw, period{"wait", maxPoll})
		}
		return boolean(&r.Options.Wait, raw, "wait")
	},
	fieldTask: readTask,
	fieldAfter: func(r *Request, raw []byte) *task.Error {
		return integer(&r.Options.After, raw, bounds{"after", 0, 1 << 31})
	},
	fieldFilter: checkFilter,
	fieldStatus: readStatus,
	fieldSince:  func(r *Request, raw []byte) *task.Error { return moment(&r.Options.Since, raw, "since") },
	fieldUntil:  func(r *Request, raw []byte) *task.Error { return moment(&r.Options.Until, raw, "until") },
	fieldLimit:  readLimit,
	fieldCursor: func(r *Request, raw []byte) *task.Error {
		return name(&r.Options.Cursor, raw, bounds{"cursor", 1, maxCursor})
	},
	fieldOwner:    readOwner,
	fieldLease:    readLease,
	fieldData:     func(r *Request, raw []byte) *task.Error { r.Work.Data = raw; return nil },
	fieldDataBlob: func(r *Request, raw []byte) *task.Error { return object(&r.Work.DataBlob, raw, "data_blob") },
	fieldError:    readError,
	fieldRetry:    func(r *Request, raw []byte) *task.Error { return boolean(&r.Work.Retry, raw, "retry") },
	fieldRetryAfter: func(r *Request, raw []byte) *task.Error {
		return seconds(&r.Work.RetryAfter, raw, period{"retry_after", task.MaxSpan})
	},
	fieldPercent: readPercent,
	fieldMessage: readMessage,
	fieldWork:    readWork,
	fieldActions: func(r *Request, raw []byte) *task.Error { return actionNames(&r.Work.Actions, raw, "actions") },
	fieldQueues:  readQueues,
	fieldSlots:   readSlots,
	fieldWorker: func(r *Request, raw []byte) *task.Error {
		return name(&r.Work.Worker, raw, bounds{"worker", 1, maxWorker})
	},
	fieldVersion: func(r *Request, raw []byte) *task.Error {
		return name(&r.Work.Version, raw, bounds{"version", 0, maxWorker})
	},
	fieldHold: readHold,
	fieldGrace: func(r *Request, raw []byte) *task.Error {
		return seconds(&r.Work.Grace, raw, period{"grace", maxGrace})
	},
	fieldIdempotent: func(r *Request, raw []byte) *task.Error { return actionNames(&r.Work.Idempotent, raw, "idempotent") },
	fieldLeaseS:     readLeaseTime,
	fieldLeases:     func(r *Request, raw []byte) *task.Error { return leaseNames(&r.Work.Leases, raw, "leases") },
	fieldPassedOn:   readPassedOn,
	fieldRun:        readRun,
}

// bounds has the name of a field, and the least and the greatest value or length that it may have.
type bounds struct {
	field       string
	least, most int
}

func readAction(r *Request, raw []byte) *task.Error {
	if raw[0] != '"' {
		return task.RefuseField(task.InvalidRequest, "action", "action must be a string")
	}
	r.Action = unescape(raw)
	if n := len(r.Action); n == 0 || n > task.MaxAction {
		return task.RefuseField(task.InvalidRequest, "action", "action has %d bytes, 1 to %d are allowed", n, task.MaxAction)
	}
	return task.CheckName("action", r.Action)
}

func readKey(r *Request, raw []byte) *task.Error {
	return text(&r.Options.Key, raw, bounds{"key", 1, maxKey})
}

func readTask(r *Request, raw []byte) *task.Error {
	return name(&r.Options.Task, raw, bounds{"task", 1, maxTaskID})
}

func readOwner(r *Request, raw []byte) *task.Error {
	return name(&r.Options.Owner, raw, bounds{"owner", 1, task.MaxOwner})
}

// readPayload stores the payload. For op get, payload says whether the client wants the payload.
func readPayload(r *Request, raw []byte) *task.Error {
	if r.Op == OpGet {
		return boolean(&r.Options.WithPayload, raw, "payload")
	}
	r.Payload = raw
	return nil
}

// readTimeout reads the timeout of an attempt, which cannot be 0, or of a wait.
func readTimeout(r *Request, raw []byte) *task.Error {
	most := task.MaxTaskTimeout.Seconds()
	if r.Op == OpEnqueue {
		most = task.MaxEnqueueTimeout.Seconds()
	}
	value, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || value < 0 || value > most || (value == 0 && r.Op != OpWait) {
		least := "more than 0"
		if r.Op == OpWait {
			least = "at least 0"
		}
		return task.RefuseField(task.InvalidRequest, "timeout", "timeout must be a number of seconds, %s and at most %g", least, most)
	}
	r.Timeout = max(time.Duration(value*float64(time.Second)), 1)
	return nil
}

// readPassedOn reads why a node passes a run on.
func readPassedOn(r *Request, raw []byte) *task.Error {
	return oneOf((*string)(&r.PassedOn), raw, "passed_on", string(task.PassedOnMissing), string(task.PassedOnFull))
}

// readRun reads the id of a run that a cancel is about.
func readRun(r *Request, raw []byte) *task.Error {
	if raw[0] != '"' && raw[0] != '-' && raw[0]-'0' > 9 || len(raw)-2 > task.MaxID {
		return task.RefuseField(task.InvalidRequest, "run", "run must be the id of a run, a string or a number")
	}
	r.Options.Run = raw
	return nil
}

func readToken(r *Request, raw []byte) *task.Error {
	if raw[0] != '"' {
		return task.RefuseField(task.InvalidRequest, "token", "token must be a string")
	}
	r.Token = unescape(raw)
	return nil
}

// readExpires reads how long a task may wait for its start. It cannot be 0, since the task would never start.
func readExpires(r *Request, raw []byte) *task.Error {
	err := seconds(&r.Options.Expires, raw, period{"expires", task.MaxSpan})
	if err == nil && r.Options.Expires <= 0 {
		return task.RefuseField(task.InvalidRequest, "expires", "expires must be a number of seconds, more than 0 and at most %.0f", task.MaxSpan.Seconds())
	}
	return err
}

func readQueue(r *Request, raw []byte) *task.Error {
	if err := text(&r.Options.Queue, raw, bounds{"queue", 1, task.MaxQueue}); err != nil {
		return err
	}
	return task.CheckQueue(r.Options.Queue)
}

func readPriority(r *Request, raw []byte) *task.Error {
	return oneOf(&r.Options.Priority, raw, "priority", "high", "normal", "low")
}

func readStatus(r *Request, raw []byte) *task.Error {
	return oneOf(&r.Options.Status, raw, "status", "scheduled", "queued", "running", "done", "failed", "cancelled")
}

func readLimit(r *Request, raw []byte) *task.Error {
	most := maxFilter
	if r.Op == OpList {
		most = maxList
	}
	return integer(&r.Options.Limit, raw, bounds{"limit", 1, most})
}

// readMeta checks that the labels are strings and not too large together.
func readMeta(r *Request, raw []byte) *task.Error {
	if err := object(&r.Options.Meta, raw, "meta"); err != nil {
		return err
	}
	if n := len(raw); n > task.MaxMeta {
		return task.RefuseField(task.InvalidRequest, "meta", "meta has %d bytes of JSON, at most %d are allowed", n, task.MaxMeta)
	}
	var refusal *task.Error
	members(raw, func(name, value []byte) bool {
		if value[0] != '"' {
			refusal = task.RefuseField(task.InvalidRequest, "meta", "meta must be an object whose values are strings")
		} else if refusal = task.CheckText("meta", name); refusal == nil {
			refusal = task.CheckText("meta", unescape(value))
		}
		return refusal == nil
	})
	return refusal
}

// checkFilter checks the members of a filter by the rules of the fields with the same names, and stores the filter
// unchanged.
func checkFilter(r *Request, raw []byte) *task.Error {
	if err := object(&r.Options.Filter, raw, "filter"); err != nil {
		return err
	}
	var own Request
	refusal := task.RefuseField(task.InvalidRequest, "filter", "filter is empty; it needs queue, action, status, owner or meta")
	members(raw, func(name, value []byte) bool {
		switch fieldNamed(name) {
		case fieldQueue:
			refusal = readQueue(&own, value)
		case fieldAction:
			refusal = readAction(&own, value)
		case fieldStatus:
			refusal = readStatus(&own, value)
		case fieldOwner:
			refusal = readOwner(&own, value)
		case fieldMeta:
			refusal = readMeta(&own, value)
		default:
			refusal = task.Refuse(task.InvalidRequest, "unknown member %s; a filter has queue, action, status, owner, meta", clip(name))
		}
		return refusal == nil
	})
	if refusal == nil && own.Options.empty() && len(own.Action) == 0 {
		refusal = task.Refuse(task.InvalidRequest, "meta is empty and nothing else is there; a filter cannot match every task")
	}
	if refusal != nil && refusal.Field != "filter" {
		refusal.Field, refusal.Message = "filter", "filter: "+refusal.Message
	}
	return refusal
}

// empty reports whether all options that a filter can have are missing.
func (o *Options) empty() bool {
	return o.Queue == "" && o.Status == "" && o.Owner == "" && !bytes.ContainsRune(o.Meta, '"')
}

// members calls take for each member of an object that is valid JSON, until take returns false.
func members(raw []byte, take func(name, value []byte) bool) {
	s := scanner{data: raw}
	s.members(1, take)
}

// checkTogether checks the rules about more than one field.
func (r *Request) checkTogether() *task.Error {
	switch {
	case r.has(fieldDelay) && r.has(fieldRunAt):
		return task.RefuseField(task.InvalidRequest, "run_at", "delay and run_at cannot both be given")
	case r.has(fieldDelay) && r.has(fieldExpires) && r.Options.Delay >= r.Options.Expires:
		return task.RefuseField(task.InvalidRequest, "expires", "the task could never start: its delay is not shorter than expires")
	case r.has(fieldBackoff) && r.has(fieldBackoffMax) && r.Options.Backoff > r.Options.BackoffMax:
		return task.RefuseField(task.InvalidRequest, "backoff_max", "backoff_max cannot be less than backoff")
	case r.has(fieldPayload) && r.has(fieldPayloadBlob):
		return task.RefuseField(task.InvalidRequest, "payload_blob", "payload and payload_blob cannot both be given")
	case r.has(fieldData) && r.has(fieldDataBlob):
		return task.RefuseField(task.InvalidRequest, "data_blob", "data and data_blob cannot both be given")
	case r.Op != OpCancel && r.Op != OpRetry:
		return nil
	case r.has(fieldRun) && !r.has(fieldTask) && !r.has(fieldFilter) && !r.has(fieldLimit):
		return nil
	case r.has(fieldRun):
		return task.RefuseField(task.InvalidRequest, "run", "run cannot be given together with task, filter or limit")
	case r.has(fieldTask) == r.has(fieldFilter):
		return task.RefuseField(task.InvalidRequest, "task", "op %s needs either task or filter", r.Op)
	case r.has(fieldLimit) && !r.has(fieldFilter):
		return task.RefuseField(task.InvalidRequest, "limit", "limit goes with filter only")
	}
	return nil
}

// name reads a string as text does, and refuses control characters.
func name(to *string, raw []byte, b bounds) *task.Error {
	if err := text(to, raw, b); err != nil {
		return err
	}
	return task.CheckName(b.field, *to)
}

// text reads a string that every store can keep. Its length in bytes must be within bounds.
func text(to *string, raw []byte, b bounds) *task.Error {
	if raw[0] != '"' {
		return task.RefuseField(task.InvalidRequest, b.field, "%s must be a string", b.field)
	}
	value := unescape(raw)
	if len(value) < b.least || len(value) > b.most {
		return task.RefuseField(task.InvalidRequest, b.field, "%s has %d bytes, %d to %d are allowed", b.field, len(value), b.least, b.most)
	}
	if err := task.CheckText(b.field, value); err != nil {
		return err
	}
	*to = string(value)
	return nil
}

// oneOf reads a string that must be one of the allowed ones.
func oneOf(to *string, raw []byte, name string, allowed ...string) *task.Error {
	for _, value := range allowed {
		if raw[0] == '"' && string(unescape(raw)) == value {
			*to = value
			return nil
		}
	}
	return task.RefuseField(task.InvalidRequest, name, "%s must be one of %q", name, allowed)
}

// integer reads an integer within bounds.
func integer(to *int, raw []byte, b bounds) *task.Error {
	value, err := strconv.Atoi(string(raw))
	if err != nil || value < b.least || value > b.most {
		return task.RefuseField(task.InvalidRequest, b.field, "%s must be an integer from %d to %d", b.field, b.least, b.most)
	}
	*to = value
	return nil
}

// boolean reads true or false.
func boolean(to *bool, raw []byte, name string) *task.Error {
	if raw[0] != 't' && raw[0] != 'f' {
		return task.RefuseField(task.InvalidRequest, name, "%s must be true or false", name)
	}
	*to = raw[0] == 't'
	return nil
}

// period has the name of a field and its longest duration.
type period struct {
	field string
	most  time.Duration
}

// seconds reads a duration. 0 becomes task.Zero, since a missing field means the default.
func seconds(to *time.Duration, raw []byte, p period) *task.Error {
	value, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || value < 0 || value > p.most.Seconds() {
		return task.RefuseField(task.InvalidRequest, p.field, "%s must be a number of seconds from 0 to %.0f", p.field, p.most.Seconds())
	}
	if *to = time.Duration(value * float64(time.Second)); *to == 0 {
		*to = task.Zero
	}
	return nil
}

// moment reads a time.
func moment(to *time.Time, raw []byte, name string) *task.Error {
	var at string
	if err := text(&at, raw, bounds{name, 1, maxTime}); err != nil {
		return err
	}
	t, err := task.ParseTime(at)
	if err != nil {
		return task.RefuseField(task.InvalidRequest, name, "%s must be %v", name, err)
	}
	*to = t
	return nil
}

// object reads a value that must be an object and stores it unchanged.
func object(to *[]byte, raw []byte, name string) *task.Error {
	if raw[0] != '{' {
		return task.RefuseField(task.InvalidRequest, name, "%s must be an object", name)
	}
	*to = raw
	return nil
}
