package wire

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/posta-tasks/posta/task"
)

// NodeLine is one line from a node to a worker: a push, the answer to an outcome, or another reply. Its slices alias the
// line, so they are valid as long as the buffer of the line; its strings are copies. To use one NodeLine for many lines
// saves allocations. It is not safe for concurrent use.
type NodeLine struct {
	ID     []byte // raw JSON of the id; nil when null or absent
	Status []byte // unescaped
	Lease  []byte // unescaped

	// Of a push.
	Task    []byte // the id; empty for a direct run
	Attempt int
	Action  []byte
	Timeout time.Duration
	Payload []byte // raw JSON; nil: it is in blob storage, or absent
	Href    string // where the payload can be fetched; "" unless it is in blob storage

	// Of the first line of a stream.
	Node string
	Held []string // the leases that are still valid; nil when absent

	// Of a refusal, and the code also of the line that stops an attempt.
	Code       task.Code
	Error      string
	RetryAfter time.Duration

	scan scanner
}

// Parse parses a line, given without its line ending. It skips unknown members and allows unknown statuses, since later
// nodes may send some.
func (l *NodeLine) Parse(line []byte) error {
	*l = NodeLine{scan: l.scan}
	s := &l.scan
	s.reset(line)
	s.space()
	if s.pos >= len(line) || line[s.pos] != '{' {
		return errors.New("the line is not a JSON object")
	}
	var wrong error
	valid := s.members(-replyNesting, func(name, raw []byte) bool {
		wrong = l.member(name, raw)
		return wrong == nil
	})
	switch {
	case wrong != nil:
		return wrong
	case !valid || !s.end():
		return fmt.Errorf("the line is not valid JSON: %w", s.failure())
	}
	return nil
}

// member sets the field for one member of the line.
func (l *NodeLine) member(name, raw []byte) (err error) {
	switch string(name) {
	case "id":
		if raw[0] != 'n' {
			l.ID = raw
		}
	case "status":
		l.Status, err = textOf(name, raw)
	case "lease":
		l.Lease, err = textOf(name, raw)
	case "task":
		l.Task, err = textOf(name, raw)
	case "action":
		l.Action, err = textOf(name, raw)
	case "attempt":
		l.Attempt, err = strconv.Atoi(string(raw))
	case "timeout":
		l.Timeout, err = secondsOf(name, raw)
	case "payload":
		l.Payload = raw
	case "payload_blob":
		l.Href, err = hrefOf(raw)
	default:
		err = l.rareMember(name, raw)
	}
	return err
}

// rareMember sets the field for a member that pushes do not have.
func (l *NodeLine) rareMember(name, raw []byte) error {
	var to *string
	switch string(name) {
	case "code":
		to = (*string)(&l.Code)
	case "error":
		to = &l.Error
	case "node":
		to = &l.Node
	case "held":
		return l.readHeld(raw)
	case "retry_after":
		wait, err := secondsOf(name, raw)
		l.RetryAfter = wait
		return err
	default:
		return nil
	}
	text, err := textOf(name, raw)
	*to = string(text)
	return err
}

func (l *NodeLine) readHeld(raw []byte) error {
	l.Held = []string{}
	if raw[0] == '[' && (&scanner{data: raw}).items(-replyNesting, func(item []byte) bool {
		if item[0] == '"' {
			l.Held = append(l.Held, string(unescape(item)))
		}
		return item[0] == '"'
	}) {
		return nil
	}
	return errors.New("the line's held is no list of leases")
}

// hrefOf returns the href of a body in blob storage.
func hrefOf(raw []byte) (href string, err error) {
	if raw[0] != '{' {
		return "", errors.New("payload_blob is no object")
	}
	(&scanner{data: raw}).members(-replyNesting, func(name, raw []byte) bool {
		if string(name) == "href" && raw[0] == '"' {
			href = string(unescape(raw))
		}
		return true
	})
	if href == "" {
		return "", errors.New("payload_blob has no href")
	}
	return href, nil
}

func textOf(name, raw []byte) ([]byte, error) {
	if raw[0] != '"' {
		return nil, fmt.Errorf("%s of the line is not a string", name)
	}
	return unescape(raw), nil
}

// Refusal returns the error of a line with the status error.
func (l *NodeLine) Refusal() *task.Error {
	return &task.Error{Code: l.Code, Message: l.Error, RetryAfter: l.RetryAfter}
}
