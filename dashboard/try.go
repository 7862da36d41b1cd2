package dashboard

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/posta-tasks/posta/task"
)

// tryBody is the data of the page that sends a task.
type tryBody struct {
	Op, Action, Queue, Payload, Delay, Key string
	Priority                               string
	Actions                                []string
	Line, Answer                           string // of the wire; "" before something was sent
	Task                                   string // the id in the answer
	Failed                                 bool   // the answer is a refusal
	Problem                                string // why nothing was sent
}

// try shows the form that sends a task.
func (d *Dashboard) try(q *request) *task.Error {
	values := q.r.URL.Query()
	b := tryBody{Op: "run", Action: values.Get("action"), Queue: values.Get("queue"), Payload: values.Get("payload"), Actions: d.config.Source.Actions(q.ctx())}
	if values.Get("op") == "enqueue" {
		b.Op = "enqueue"
	}
	if from := values.Get("from"); isID(from) { // edit a task and enqueue it again
		t, refusal := d.config.Source.Get(q.ctx(), from)
		if refusal != nil {
			return refusal
		}
		b.Op, b.Action, b.Queue, b.Payload, b.Priority = "enqueue", t.Action, t.Queue, string(t.Payload.Inline), t.Priority.String()
	}
	if !d.config.Source.Keeps() {
		b.Op = "run"
	}
	if b.Action == "" {
		b.Action, b.Payload = "upper", `"hola"`
		if !slices.Contains(b.Actions, "upper") && len(b.Actions) > 0 {
			b.Action, b.Payload = b.Actions[0], "null"
		}
	}
	q.show(http.StatusOK, "try", "nav.try", &frame{Body: b})
	return nil
}

// send carries out the form, and shows both lines of the wire.
func (d *Dashboard) send(q *request) *task.Error {
	if refusal := q.form(); refusal != nil {
		return refusal
	}
	form := q.r.Form
	b := tryBody{
		Op: "run", Action: form.Get("action"), Queue: form.Get("queue"), Payload: strings.TrimSpace(form.Get("payload")), Delay: strings.TrimSpace(form.Get("delay")),
		Key: form.Get("key"), Priority: form.Get("priority"), Actions: d.config.Source.Actions(q.ctx()),
	}
	if form.Get("op") == "enqueue" {
		b.Op = "enqueue"
	}
	status := http.StatusOK
	line, problem := b.line(q.lang)
	if problem == "" {
		answer := d.config.Source.Send(q.ctx(), line)
		b.Line, b.Answer = visible(brief(string(line), 20_000)), visible(brief(strings.TrimSpace(string(answer)), 20_000))
		var reply struct{ Status, Task string }
		_ = json.Unmarshal(answer, &reply) // whatever it is, it is shown
		b.Failed = reply.Status == "error"
		if isID(reply.Task) {
			b.Task = reply.Task
		}
	} else {
		b.Problem, status = problem, http.StatusBadRequest
	}
	q.show(status, "try", "nav.try", &frame{Body: b})
	return nil
}

// line returns the line that the form stands for, or why there is none.
func (b *tryBody) line(l *language) (line []byte, problem string) {
	for _, text := range []string{b.Action, b.Queue, b.Payload, b.Key, b.Delay} {
		if refusal := task.CheckText("text", text); refusal != nil {
			return nil, refusal.Message
		}
	}
	var payload bytes.Buffer
	if b.Payload == "" {
		payload.WriteString("null")
	} else if err := json.Compact(&payload, []byte(b.Payload)); err != nil {
		return nil, l.text("try.badjson", err.Error())
	}
	line = append(task.AppendString([]byte(`{"id":1,"op":"`+b.Op+`","action":`), b.Action), `,"payload":`...)
	line = append(line, payload.Bytes()...)
	if b.Op == "enqueue" {
		if line, problem = b.appendOptions(line, l); problem != "" {
			return nil, problem
		}
	}
	return append(line, '}'), ""
}

// appendOptions appends the options of an enqueue.
func (b *tryBody) appendOptions(line []byte, l *language) (longer []byte, problem string) {
	if b.Queue != "" {
		line = task.AppendString(append(line, `,"queue":`...), b.Queue)
	}
	if b.Priority == "high" || b.Priority == "low" {
		line = append(line, `,"priority":"`+b.Priority+`"`...)
	}
	if b.Delay != "" && b.Delay != "0" {
		if !isNumber(b.Delay) {
			return nil, l.text("try.baddelay")
		}
		line = append(line, `,"delay":`+b.Delay...)
	}
	if b.Key != "" {
		line = task.AppendString(append(line, `,"key":`...), b.Key)
	}
	return line, ""
}

// isNumber reports whether a text is a number of JSON.
func isNumber(text string) bool {
	var n json.Number
	return len(text) < 32 && !strings.ContainsAny(text, `"n`) && json.Unmarshal([]byte(text), &n) == nil
}
