package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/posta-tasks/posta/task"
)

// The statuses of a reply.
const (
	StatusDone       = "done"
	StatusScheduled  = "scheduled"
	StatusQueued     = "queued"
	StatusRunning    = "running"
	StatusFailed     = "failed"
	StatusCancelled  = "cancelled"
	StatusCancelling = "cancelling"
	StatusError      = "error"
	StatusGoaway     = "goaway"
	StatusReady      = "ready"
)

// replyNesting is how much deeper than a request a reply may nest: it has an envelope, and lists of records that
// contain results.
const replyNesting = 8

// Reply is one line from a server. Its slices alias the line, so they are valid as long as the buffer of the line;
// its strings are copies. To use one Reply for many lines saves allocations: only refusals need some. It is not
// safe for concurrent use.
type Reply struct {
	ID         []byte        // raw JSON of the id; nil when null or absent
	Status     string        // one of the statuses above
	Task       string        // the id of the durable task
	Lease      string        // of a push, or of the answer to an outcome
	Result     []byte        // raw JSON of the result object; nil when absent
	Code       task.Code     // of a refusal, a goaway or a failed task
	Error      string        // for people
	Detail     string        // details of invalid_json
	Field      string        // the field that is wrong
	Limit      string        // the limit that was reached
	State      string        // the state of the task, if it does not allow the change
	RetryAfter time.Duration // after which time to try again; at most a day
	Retried    bool          // the task was retried after this end, so more lines follow

	scan scanner
}

// Parse parses a line, given without its line ending. It skips unknown members, since later servers may add some.
// The error says whether the line is not strict JSON, has no known status, or has a member of the wrong type.
func (r *Reply) Parse(line []byte) error {
	r.ID, r.Status, r.Task, r.Lease, r.Result, r.Code = nil, "", "", "", nil, ""
	r.Error, r.Detail, r.Field, r.Limit, r.State, r.RetryAfter, r.Retried = "", "", "", "", "", 0, false
	s := &r.scan
	s.reset(line)
	if r.plainDone() {
		return nil
	}
	s.reset(line)
	s.space()
	if s.pos >= len(line) || line[s.pos] != '{' {
		return errors.New("reply is not a JSON object")
	}
	var refused error
	valid := s.members(-replyNesting, func(name, raw []byte) bool {
		refused = r.member(name, raw)
		return refused == nil
	})
	switch {
	case refused != nil:
		return refused
	case !valid || !s.end():
		return fmt.Errorf("reply is not valid JSON: %w", s.failure())
	case r.Status == "":
		return errors.New("reply has no status")
	}
	return nil
}

// plainDone parses the reply of a task with an integer id exactly as AppendDone writes it. Nearly all lines are
// like this, and it takes half of the time. For any other line it returns false and sets nothing.
func (r *Reply) plainDone() bool {
	const before, between = `{"id":`, `,"status":"done","result":`
	s := &r.scan
	if len(s.data) < len(before) || string(s.data[:len(before)]) != before {
		return false
	}
	s.pos = len(before)
	if !s.digits() || s.pos > len(before)+1 && s.data[len(before)] == '0' {
		return false
	}
	id, rest := s.data[len(before):s.pos], s.data[s.pos:]
	if len(rest) <= len(between) || string(rest[:len(between)]) != between || rest[len(between)] != '{' {
		return false
	}
	s.pos += len(between)
	from := s.pos
	if !s.value(-replyNesting) || s.pos != len(s.data)-1 || s.data[s.pos] != '}' {
		return false
	}
	r.ID, r.Status, r.Result = id, StatusDone, s.data[from:s.pos]
	return true
}

// member sets the field for one member of the reply.
func (r *Reply) member(name, raw []byte) error {
	switch string(name) {
	case "id":
		return r.readID(raw)
	case "status":
		return r.readStatus(raw)
	case "result":
		if raw[0] != '{' {
			return errors.New("the result of the reply is not an object")
		}
		r.Result = raw
		return nil
	case "retry_after":
		wait, err := secondsOf(name, raw)
		r.RetryAfter = wait
		return err
	case "retried":
		r.Retried = raw[0] == 't'
		return nil
	}
	to := r.textMember(name)
	if to == nil {
		return nil
	}
	if raw[0] != '"' {
		return fmt.Errorf("%s of the reply is not a string", name)
	}
	*to = string(unescape(raw))
	return nil
}

// textMember returns the field of a string member, or nil if the member is unknown.
func (r *Reply) textMember(name []byte) *string {
	switch string(name) {
	case "task":
		return &r.Task
	case "lease":
		return &r.Lease
	case "code":
		return (*string)(&r.Code)
	case "error":
		return &r.Error
	case "detail":
		return &r.Detail
	case "field":
		return &r.Field
	case "limit":
		return &r.Limit
	case "state":
		return &r.State
	}
	return nil
}

func (r *Reply) readID(raw []byte) error {
	switch {
	case raw[0] == 'n':
		r.ID = nil
	case raw[0] == '"' || raw[0] == '-' || raw[0]-'0' < 10:
		r.ID = raw
	default:
		return errors.New("the id of the reply is not a string, a number or null")
	}
	return nil
}

// readStatus sets Status to one of the constants, so that it allocates nothing.
func (r *Reply) readStatus(raw []byte) error {
	for _, status := range [...]string{
		StatusDone, StatusError, StatusGoaway, StatusQueued, StatusScheduled,
		StatusRunning, StatusFailed, StatusCancelled, StatusCancelling, StatusReady,
	} {
		if len(raw) == len(status)+2 && string(raw[1:len(raw)-1]) == status {
			r.Status = status
			return nil
		}
	}
	return fmt.Errorf("reply has the unknown status %s", clip(raw))
}

// secondsOf returns a number of seconds, at most a day.
func secondsOf(name, raw []byte) (time.Duration, error) {
	value, err := strconv.ParseFloat(string(raw), 64)
	if err != nil && !math.IsInf(value, 0) || value < 0 {
		return 0, fmt.Errorf("%s of the reply is not a number of seconds: %s", name, clip(raw))
	}
	const day = 24 * time.Hour
	return time.Duration(min(value, day.Seconds()) * float64(time.Second)), nil
}

// Refusal returns the error of a reply with the status error.
func (r *Reply) Refusal() *task.Error {
	return &task.Error{
		Code: r.Code, Message: r.Error, Detail: r.Detail, Field: r.Field, Limit: r.Limit,
		Task: r.Task, State: r.State, RetryAfter: r.RetryAfter,
	}
}

// Succeeded returns the "ok" of a result object as Reply.Result has it, and its "error" if it failed. It allocates
// nothing for a success.
func Succeeded(result []byte) (ok bool, message string) {
	const prefix = `{"ok":true`
	if rest, found := bytes.CutPrefix(result, []byte(prefix)); found && len(rest) > 0 {
		return true, ""
	}
	s := scanner{data: result}
	if len(result) == 0 || result[0] != '{' {
		return false, "the result is not an object"
	}
	s.members(-replyNesting, func(name, raw []byte) bool {
		switch string(name) {
		case "ok":
			ok = raw[0] == 't'
		case "error":
			message = string(raw)
			if raw[0] == '"' {
				message = string(unescape(raw))
			}
		}
		return true
	})
	return ok, message
}
