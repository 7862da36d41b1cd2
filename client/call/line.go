package call

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/posta-tasks/posta/client/link"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// A line is written from its beginning to its end. A member whose value is zero is left
// out: then the server's default holds.

// Begin writes what every line has.
func (k *Call) Begin(op wire.Op) {
	k.fault = nil
	k.Line = append(k.Line[:0], link.Begin...)
	k.Text("op", op.String())
}

// Name begins a member; the value is to be appended to the line.
func (k *Call) Name(name string) {
	k.Line = append(append(append(k.Line, `,"`...), name...), `":`...)
}

// Text writes a string. One that is no UTF-8 would become another string on its way: End refuses it.
func (k *Call) Text(name, value string) {
	if value != "" {
		k.check(name, value)
		k.Name(name)
		k.Line = wire.AppendString(k.Line, value)
	}
}

func (k *Call) check(name, value string) {
	if k.fault == nil {
		k.fault = task.CheckText(name, value)
	}
}

// Number writes a whole number.
func (k *Call) Number(name string, value int) {
	if value != 0 {
		k.Name(name)
		k.Line = strconv.AppendInt(k.Line, int64(value), 10)
	}
}

// True writes true.
func (k *Call) True(name string) {
	k.Name(name)
	k.Line = append(k.Line, "true"...)
}

// Seconds writes a span of time.
func (k *Call) Seconds(name string, value time.Duration) {
	if value != 0 {
		k.Name(name)
		k.Line = strconv.AppendFloat(k.Line, value.Seconds(), 'f', -1, 64)
	}
}

// Time writes a time.
func (k *Call) Time(name string, at time.Time) {
	if !at.IsZero() {
		k.Name(name)
		k.Line = append(k.Line, '"')
		k.Line = append(at.UTC().AppendFormat(k.Line, time.RFC3339Nano), '"')
	}
}

// Labels writes an object of strings, in the order of their names.
func (k *Call) Labels(name string, labels map[string]string) {
	if len(labels) == 0 {
		return
	}
	k.Name(name)
	separator := byte('{')
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		k.check(name, label)
		k.check(name, labels[label])
		k.Line = wire.AppendString(append(k.Line, separator), label)
		k.Line = wire.AppendString(append(k.Line, ':'), labels[label])
		separator = ','
	}
	k.Line = append(k.Line, '}')
}

// Object writes the members that inside writes as an object of their own.
func (k *Call) Object(name string, inside func()) {
	k.Name(name)
	k.Line = append(k.Line, '{')
	first := len(k.Line)
	inside()
	if len(k.Line) > first {
		k.Line = slices.Delete(k.Line, first, first+1) // the comma
	}
	k.Line = append(k.Line, '}')
}

// Payload writes a payload, if there is one. A line feed between its values is taken out,
// since it would end the line.
func (k *Call) Payload(payload json.RawMessage) error {
	if payload == nil {
		return nil
	}
	if bytes.IndexByte(payload, '\n') >= 0 {
		var compact bytes.Buffer
		if err := json.Compact(&compact, payload); err != nil {
			return task.RefuseField(task.InvalidJSON, "payload", "the payload is no JSON: %v", err)
		}
		payload = compact.Bytes()
	}
	k.Name("payload")
	k.Line = append(k.Line, payload...)
	return nil
}

// End ends the line and holds it to the server's limit.
func (s *Sender) End(k *Call) error {
	if k.fault != nil {
		return k.fault
	}
	k.Line = append(k.Line, '}', '\n')
	if n := len(k.Line) + link.LongestID; n > s.lineBytes {
		e := task.Refuse(task.LineTooLong, "the request makes a line of %d bytes, at most %d are allowed", n, s.lineBytes)
		e.Limit = strconv.Itoa(s.lineBytes)
		return e
	}
	return nil
}

// EndChecked ends the line and reads it as the server will. What the server would refuse
// is refused here: some of it, such as a payload that is no JSON, without it being able to
// say whose line it was.
func (s *Sender) EndChecked(k *Call) error {
	if err := s.End(k); err != nil {
		return err
	}
	request, _ := s.checkers.Get().(*wire.Request)
	if request == nil {
		request = new(wire.Request)
	}
	defer s.checkers.Put(request)
	if refusal := request.Parse(k.Line[:len(k.Line)-1], wire.OpRun); refusal != nil {
		return refusal
	}
	if refusal := request.Validate(); refusal != nil {
		return refusal
	}
	return nil
}
