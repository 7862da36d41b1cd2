package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/posta-tasks/posta/client/link"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	// maxResends is how often a request whose outcome is unknown is sent again: a
	// task that kills the node it runs on must not visit all of them for ever.
	maxResends = 3
	// maxRereads is how often in a row a request that only reads is sent again when its
	// connection ended. It outlasts a rolling restart, not a server that no reply of
	// can be understood.
	maxRereads = 10
	// keptLine is the room for a line that a call keeps for the next request.
	keptLine = 64 << 10
)

// call is one request on its way, with what is needed to send it again and to tell its
// outcome.
type call struct {
	link.Call
	action string
	repeat bool // may be sent again when its outcome is unknown
	reads  bool // changes nothing, and may be sent again as often as maxRereads
	tries  int  // how often it came back
	losses int  // how often its outcome was unknown
}

// reset prepares a call for another request.
func (k *call) reset() {
	if cap(k.Line) > keptLine {
		k.Line = nil
	}
	k.Line, k.Result, k.Err, k.Shape, k.Heard = k.Line[:0], nil, nil, link.Object, nil
	k.action, k.repeat, k.reads, k.tries, k.losses = "", false, false, 0, 0
}

// again tells whether a call that came back may be sent once more, and after which
// pause.
func (k *call) again() (pause time.Duration, ok bool) {
	k.tries++
	switch k.Fate {
	case link.Unsent:
		return 0, true
	case link.Lost:
		k.losses++
		if k.reads {
			return link.Backoff(k.losses), k.losses <= maxRereads
		}
		return 0, k.repeat && k.losses <= maxResends
	case link.Answered:
		var refusal *task.Error
		if !errors.As(k.Err, &refusal) {
			return 0, false
		}
		switch refusal.Code {
		case task.Draining:
			return max(link.Longer(refusal.RetryAfter), link.Backoff(k.tries)), true
		case task.Overloaded:
			return link.Longer(refusal.RetryAfter), refusal.RetryAfter > 0
		}
	}
	return 0, false
}

// outcome gives what the caller gets.
func (k *call) outcome() (Result, error) {
	switch {
	case k.Fate == link.Lost && k.reads:
		return Result{}, fmt.Errorf("the connection ended before the reply: %w", k.Err)
	case k.Fate == link.Lost:
		return Result{}, unknownOutcome("the connection ended after the request was written", k.Err)
	case k.Err != nil:
		return Result{}, k.Err
	}
	result := Result{k.Result}
	if k.Shape != link.Object {
		return result, nil
	}
	if ok, message := wire.Succeeded(k.Result); !ok {
		return result, &ActionError{Action: k.action, Message: message}
	}
	return result, nil
}

// unknownOutcome makes the error of a request that may or may not have been carried out.
func unknownOutcome(what string, cause error) error {
	return fmt.Errorf("%w: %w", task.Refuse(task.UnknownOutcome, "%s: it may or may not have been carried out", what), cause)
}

// beginLine writes what every line has.
func (k *call) beginLine(op wire.Op) {
	k.Line = append(k.Line[:0], link.Begin...)
	k.Line = append(k.Line, `,"op":"`...)
	k.Line = append(k.Line, op.String()...)
	k.Line = append(k.Line, '"')
}

// endLine ends the line and holds it to the server's limit.
func (k *call) endLine(limit int) error {
	k.Line = append(k.Line, '}', '\n')
	if n := len(k.Line) + link.LongestID; n > limit {
		e := task.Refuse(task.LineTooLong, "the request makes a line of %d bytes, at most %d are allowed", n, limit)
		e.Limit = strconv.Itoa(limit)
		return e
	}
	return nil
}

// runLine renders the line of a task. What the server would refuse without being
// able to say whose line it was, such as a payload that is no JSON, is refused here.
func (c *Client) runLine(k *call, r *Request) error {
	k.action, k.repeat = r.Action, r.Resend || c.cfg.Resend
	k.beginLine(wire.OpRun)
	k.Line = append(k.Line, `,"action":`...)
	k.Line = wire.AppendString(k.Line, r.Action)
	if r.Timeout != 0 {
		k.Line = append(k.Line, `,"timeout":`...)
		k.Line = strconv.AppendFloat(k.Line, r.Timeout.Seconds(), 'f', -1, 64)
	}
	if r.Payload != nil {
		k.Line = append(k.Line, `,"payload":`...)
		if err := k.payload(r.Payload); err != nil {
			return err
		}
	}
	if err := k.endLine(c.cfg.LineBytes); err != nil {
		return err
	}
	if plain(r.Payload) && r.Timeout == 0 && r.Action != "" && len(r.Action) <= task.MaxAction {
		return nil
	}
	return c.check(k.Line)
}

// plain tells payloads that need no check: none, and strings of ASCII without escapes.
func plain(payload []byte) bool {
	if len(payload) == 0 {
		return payload == nil
	}
	if len(payload) < 2 || payload[0] != '"' || payload[len(payload)-1] != '"' {
		return false
	}
	for _, c := range payload[1 : len(payload)-1] {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// check reads a line as the server will.
func (c *Client) check(line []byte) error {
	request, _ := c.checkers.Get().(*wire.Request)
	if request == nil {
		request = new(wire.Request)
	}
	defer c.checkers.Put(request)
	if refusal := request.Parse(line[:len(line)-1], wire.OpRun); refusal != nil {
		return refusal
	}
	if refusal := request.Validate(); refusal != nil {
		return refusal
	}
	return nil
}

// payload appends a payload. A line feed between its values is taken out, since it
// would end the line.
func (k *call) payload(payload json.RawMessage) error {
	if bytes.IndexByte(payload, '\n') >= 0 {
		var compact bytes.Buffer
		if err := json.Compact(&compact, payload); err != nil {
			return task.RefuseField(task.InvalidJSON, "payload", "the payload is no JSON: %v", err)
		}
		payload = compact.Bytes()
	}
	k.Line = append(k.Line, payload...)
	return nil
}
