package client

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// A line is written from beginning to end. A member with the zero value is left out, so
// that the server's default applies.

// lineStart is the beginning of the line of every call. The connection replaces the 0 with
// the id of the call.
const lineStart = `{"id":0`

// longestID is how many bytes an id adds to a line at most.
const longestID = 20

// begin writes the members that every line has.
func (k *call) begin(op wire.Op) {
	k.fault = nil
	k.line = append(k.line[:0], lineStart...)
	k.text("op", op.String())
}

// name begins a member. The caller appends the value to the line.
func (k *call) name(name string) {
	k.line = append(append(append(k.line, `,"`...), name...), `":`...)
}

// text writes a string. If the string is not valid UTF-8, endLine returns an error, since
// JSON would change the string.
func (k *call) text(name, value string) {
	if value != "" {
		k.check(name, value)
		k.name(name)
		k.line = task.AppendString(k.line, value)
	}
}

func (k *call) check(name, value string) {
	if k.fault == nil {
		k.fault = task.CheckText(name, value)
	}
}

// number writes a whole number.
func (k *call) number(name string, value int) {
	if value != 0 {
		k.name(name)
		k.line = strconv.AppendInt(k.line, int64(value), 10)
	}
}

// setTrue writes true.
func (k *call) setTrue(name string) {
	k.name(name)
	k.line = append(k.line, "true"...)
}

// seconds writes a duration in seconds. task.Zero is written as 0, and 0 is left out.
func (k *call) seconds(name string, value time.Duration) {
	if value != 0 {
		k.name(name)
		if value == task.Zero {
			value = 0
		}
		k.line = strconv.AppendFloat(k.line, value.Seconds(), 'f', -1, 64)
	}
}

// time writes a time.
func (k *call) time(name string, at time.Time) {
	if !at.IsZero() {
		k.name(name)
		k.line = append(k.line, '"')
		k.line = append(at.UTC().AppendFormat(k.line, time.RFC3339Nano), '"')
	}
}

// labels writes an object of strings, sorted by name.
func (k *call) labels(name string, labels map[string]string) {
	if len(labels) == 0 {
		return
	}
	k.name(name)
	separator := byte('{')
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		k.check(name, label)
		k.check(name, labels[label])
		k.line = task.AppendString(append(k.line, separator), label)
		k.line = task.AppendString(append(k.line, ':'), labels[label])
		separator = ','
	}
	k.line = append(k.line, '}')
}

// object writes an object with the members that inside writes.
func (k *call) object(name string, inside func()) {
	k.name(name)
	k.line = append(k.line, '{')
	first := len(k.line)
	inside()
	if len(k.line) > first {
		k.line = slices.Delete(k.line, first, first+1) // the comma
	}
	k.line = append(k.line, '}')
}

// payload writes a payload, if there is one. Line feeds between its values are removed,
// since they would end the line.
func (k *call) payload(payload json.RawMessage) error {
	if payload == nil {
		return nil
	}
	if bytes.IndexByte(payload, '\n') >= 0 {
		var compact bytes.Buffer
		if err := json.Compact(&compact, payload); err != nil {
			return task.RefuseField(task.InvalidJSON, "payload", "the payload is not valid JSON: %v", err)
		}
		payload = compact.Bytes()
	}
	k.name("payload")
	k.line = append(k.line, payload...)
	return nil
}

// endLine ends the line and checks it against the server's limit.
func (c *Client) endLine(k *call) error {
	if k.fault != nil {
		return k.fault
	}
	k.line = append(k.line, '}', '\n')
	if n := len(k.line) + longestID; n > c.cfg.LineBytes {
		e := task.Refuse(task.LineTooLong, "the request makes a line of %d bytes, at most %d are allowed", n, c.cfg.LineBytes)
		e.Limit = strconv.Itoa(c.cfg.LineBytes)
		return e
	}
	return nil
}

// endCheckedLine ends the line, parses it as the server will, and returns the error that the
// server would send. The server cannot always send the error itself with the id of the
// request: a payload that is not JSON hides the id.
func (c *Client) endCheckedLine(k *call) error {
	if err := c.endLine(k); err != nil {
		return err
	}
	request, _ := c.checkers.Get().(*wire.Request)
	if request == nil {
		request = new(wire.Request)
	}
	defer c.checkers.Put(request)
	if refusal := request.Parse(k.line[:len(k.line)-1], wire.OpRun); refusal != nil {
		return refusal
	}
	if refusal := request.Validate(); refusal != nil {
		return refusal
	}
	return nil
}
