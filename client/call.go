package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	// maxResends is how often a request whose outcome is unknown is sent again: a
	// task that kills the node it runs on must not visit all of them for ever.
	maxResends = 3
	// firstPause and lastPause bound the exponential pauses between attempts.
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
	// lineBegin is how the line of every call begins; the id stands in its place.
	lineBegin = `{"id":0`
	// longestID is what an id adds to a line.
	longestID = 20
)

// fate says how a call came back.
type fate uint8

const (
	answered fate = iota // the server replied; err is its refusal
	unsent               // never written to a socket: it cannot have run
	lost                 // written, and the connection ended without a reply
	failed               // given up; err says why
)

// owner is told when its call has come back. settled must not block: it is called
// from the goroutine that reads the connection.
type owner interface {
	settled()
}

// call is one request on its way. It belongs to its owner before submit and after
// settled; in between to the Client.
type call struct {
	owner  owner
	action string
	line   []byte       // the whole line, as for id 0
	repeat bool         // may be sent again when its outcome is unknown
	gone   *atomic.Bool // set when a stream no longer wants the outcome; nil: none

	// While the call is in the backlog, guarded by Client.mu.
	waiting        bool
	previous, next *call
	since          time.Time
	conn           *conn // the last connection that took it

	// While it is on a connection, guarded by conn.mu.
	id uint64

	// Since it came back, the owner's.
	fate   fate
	result []byte // the result object
	err    error
	tries  int // how often it came back
	losses int // how often its outcome was unknown
}

// settle gives the call back to its owner.
func (k *call) settle(how fate, err error) {
	k.fate, k.err = how, err
	k.owner.settled()
}

// reset prepares a call for another request.
func (k *call) reset() {
	if cap(k.line) > keptBuffer {
		k.line = nil
	}
	k.line, k.action, k.result, k.err = k.line[:0], "", nil, nil
	k.conn, k.tries, k.losses = nil, 0, 0
}

// again tells whether a call that came back may be sent once more, and after which
// pause.
func (k *call) again() (pause time.Duration, ok bool) {
	k.tries++
	switch k.fate {
	case unsent:
		return 0, true
	case lost:
		k.losses++
		return 0, k.repeat && k.losses <= maxResends
	case answered:
		refusal, refused := k.err.(*task.Error)
		if !refused {
			return 0, false
		}
		switch refusal.Code {
		case task.Draining:
			return max(longer(refusal.RetryAfter), backoff(k.tries)), true
		case task.Overloaded:
			return longer(refusal.RetryAfter), refusal.RetryAfter > 0
		}
	}
	return 0, false
}

// backoff gives the pause after a number of failures in a row, with jitter.
func backoff(failures int) time.Duration {
	pause := lastPause
	if failures < 8 {
		pause = min(firstPause<<max(failures-1, 0), lastPause)
	}
	return pause/2 + rand.N(pause/2)
}

// longer adds up to a quarter to a pause that a server asked for, so that those whom
// it refused together do not come back together.
func longer(pause time.Duration) time.Duration {
	if pause < 4 {
		return pause
	}
	return pause + rand.N(pause/4)
}

// outcome gives what the caller gets.
func (k *call) outcome() (Result, error) {
	switch {
	case k.fate == lost:
		return Result{}, unknownOutcome("the connection ended after the request was written", k.err)
	case k.err != nil:
		return Result{}, k.err
	}
	result := Result{k.result}
	if ok, message := wire.Succeeded(k.result); !ok {
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
	k.line = append(k.line[:0], lineBegin...)
	k.line = append(k.line, `,"op":"`...)
	k.line = append(k.line, op.String()...)
	k.line = append(k.line, '"')
}

// endLine ends the line and holds it to the server's limit.
func (k *call) endLine(limit int) error {
	k.line = append(k.line, '}', '\n')
	if n := len(k.line) + longestID; n > limit {
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
	k.line = append(k.line, `,"action":`...)
	k.line = wire.AppendString(k.line, r.Action)
	if r.Timeout != 0 {
		k.line = append(k.line, `,"timeout":`...)
		k.line = strconv.AppendFloat(k.line, r.Timeout.Seconds(), 'f', -1, 64)
	}
	if r.Payload != nil {
		k.line = append(k.line, `,"payload":`...)
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
	return c.check(k.line)
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
	k.line = append(k.line, payload...)
	return nil
}
