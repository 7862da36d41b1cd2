package rabbitmq

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

// A message of events is their JSON, as encoding/json writes it. Most events are changes of state:
// there are many per second, and every node reads all of them. The code below writes and parses
// exactly these, ten times faster than encoding/json, which handles all other events. So nodes of
// all versions understand each other.

// The text between the values of a change, in the order of the fields of broker.Event.
const (
	jsonHead       = `{"Kind":"changed","Task":`
	jsonQueue      = `,"Queue":`
	jsonAttempt    = `,"Attempt":`
	jsonSeq        = `,"Entry":{"Seq":`
	jsonState      = `,"State":`
	jsonOfEntry    = `,"Attempt":`
	jsonGeneration = `,"Generation":`
	jsonAt         = `,"At":`
	jsonNode       = `,"Node":`
	jsonWorker     = `,"Worker":` // left out if it is empty
	jsonReason     = `,"Error":`
	jsonTail       = `},"Progress":{"Percent":0,"Message":""}}`
)

// marshalEvents returns the message for events.
func marshalEvents(events []broker.Event) []byte {
	body := make([]byte, 0, 300*len(events)+2)
	for i := range events {
		body = append(body, "[,"[min(i, 1)])
		body = appendEvent(body, &events[i])
	}
	if len(events) == 0 {
		body = append(body, '[')
	}
	return append(body, ']')
}

func appendEvent(body []byte, ev *broker.Event) []byte {
	e := &ev.Entry
	if ev.Kind != broker.Changed || ev.Progress != (task.Progress{}) || e.At.Location() != time.UTC || e.At.Year() < 1000 || e.At.Year() > 9999 ||
		!isPlain(ev.Task) || !isPlain(ev.Queue) || !isPlain(string(e.State)) || !isPlain(e.Node) || !isPlain(e.Worker) || !isPlain(e.Error) {
		text, err := json.Marshal(ev)
		if err != nil { // strings, numbers and times always marshal
			panic(err)
		}
		return append(body, text...)
	}
	body = appendText(append(body, jsonHead...), ev.Task)
	body = appendText(append(body, jsonQueue...), ev.Queue)
	body = strconv.AppendInt(append(body, jsonAttempt...), int64(ev.Attempt), 10)
	body = strconv.AppendInt(append(body, jsonSeq...), int64(e.Seq), 10)
	body = appendText(append(body, jsonState...), string(e.State))
	body = strconv.AppendInt(append(body, jsonOfEntry...), int64(e.Attempt), 10)
	body = strconv.AppendInt(append(body, jsonGeneration...), int64(e.Generation), 10)
	body = append(e.At.AppendFormat(append(append(body, jsonAt...), '"'), time.RFC3339Nano), '"')
	body = appendText(append(body, jsonNode...), e.Node)
	if e.Worker != "" {
		body = appendText(append(body, jsonWorker...), e.Worker)
	}
	body = appendText(append(body, jsonReason...), e.Error)
	return append(body, jsonTail...)
}

func appendText(body []byte, text string) []byte {
	return append(append(append(body, '"'), text...), '"')
}

// isPlain reports whether encoding/json writes the text without escapes.
func isPlain(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// parseEvents returns the events of a message, or the error of encoding/json. It does not keep body.
func parseEvents(body []byte) ([]broker.Event, error) {
	if events, ok := readChanges(string(body)); ok {
		return events, nil
	}
	var events []broker.Event
	err := json.Unmarshal(body, &events)
	return events, err
}

// readChanges parses a message that has only changes, as marshalEvents writes it.
func readChanges(body string) ([]broker.Event, bool) {
	if len(body) < 2 || body[0] != '[' || body[len(body)-1] != ']' {
		return nil, false
	}
	events := make([]broker.Event, 0, len(body)/len(jsonHead+jsonTail)/2+1)
	for r := (reader{rest: body[1:]}); ; {
		events = append(events, r.change())
		if r.failed {
			return nil, false
		}
		if r.rest == "]" {
			return events, true
		}
		r.skip(",")
	}
}

// reader parses a text. After failed is set, its results mean nothing.
type reader struct {
	rest   string
	failed bool
}

func (r *reader) change() (ev broker.Event) {
	ev.Kind = broker.Changed
	ev.Task = r.text(jsonHead)
	ev.Queue = r.text(jsonQueue)
	ev.Attempt = r.number(jsonAttempt)
	ev.Entry.Seq = r.number(jsonSeq)
	ev.Entry.State = task.State(r.text(jsonState))
	ev.Entry.Attempt = r.number(jsonOfEntry)
	ev.Entry.Generation = r.number(jsonGeneration)
	ev.Entry.At = r.time(jsonAt)
	ev.Entry.Node = r.text(jsonNode)
	if strings.HasPrefix(r.rest, jsonWorker) {
		ev.Entry.Worker = r.text(jsonWorker)
		r.failed = r.failed || ev.Entry.Worker == ""
	}
	ev.Entry.Error = r.text(jsonReason)
	r.skip(jsonTail)
	return ev
}

// skip reads the expected text.
func (r *reader) skip(expected string) {
	rest, found := strings.CutPrefix(r.rest, expected)
	r.rest, r.failed = rest, r.failed || !found
}

// text reads a plain string after a name.
func (r *reader) text(name string) string {
	r.skip(name + `"`)
	text, rest, found := strings.Cut(r.rest, `"`)
	r.rest, r.failed = rest, r.failed || !found || !isPlain(text)
	return text
}

// number reads a whole number after a name.
func (r *reader) number(name string) int {
	r.skip(name)
	end := 0
	for end < len(r.rest) && r.rest[end] >= '0' && r.rest[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(r.rest[:end])
	r.failed = r.failed || err != nil || end > 1 && r.rest[0] == '0'
	r.rest = r.rest[end:]
	return n
}

// time reads a time after a name.
func (r *reader) time(name string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, r.text(name))
	r.failed = r.failed || err != nil
	return at
}
