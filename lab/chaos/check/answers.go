package check

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

// compareAnswers: a cancel and a retry are answered with what they do, each final answer is an entry of the history, and all
// answers about one attempt are the same, byte for byte.
func (e *evidence) compareAnswers() {
	for task, events := range e.about {
		for _, event := range events {
			if op, status := e.op(event), event.Reply.Status; !answers(op, status) {
				e.say(task, "request %d, %s, was answered %q", event.ID, op, status)
			}
		}
		r := e.records[task]
		if r == nil {
			continue // the promise about lost tasks reports this
		}
		first := map[int]*history.Reply{}
		if isFinal(r.Status) {
			first[r.Attempt] = &history.Reply{Status: r.Status, Result: r.Result, Code: r.Code}
		}
		for _, event := range events {
			if reply := event.Reply; isFinal(reply.Status) {
				e.compareAnswer(r, event, first)
			}
		}
	}
}

// answers reports whether a request can be answered with a status, if it is not refused.
func answers(op, status string) bool {
	switch op {
	case "cancel":
		return status == "cancelled" || status == "cancelling"
	case "retry":
		return status == "queued"
	}
	return true
}

// compareAnswer compares one final answer with the history and with other answers about the same attempt.
func (e *evidence) compareAnswer(r *history.Record, event *history.Event, first map[int]*history.Reply) {
	reply, bare := event.Reply, e.op(event) == "cancel" // its answer has no attempt
	known := slices.ContainsFunc(r.Entries, func(entry history.Entry) bool {
		return (entry.Status == reply.Status || entry.Status == history.Ended) && (bare || entry.Attempt == reply.Attempt)
	})
	if !known {
		e.say(r.Task, "was answered as %s, attempt %d, to request %d; its history has no such entry", reply.Status, reply.Attempt, event.ID)
		return
	}
	if bare || reply.Status == "cancelled" {
		return // a generation may be cancelled before its first attempt
	}
	other := first[reply.Attempt]
	switch {
	case other == nil || other.Status == "cancelled":
		first[reply.Attempt] = reply
	case other.Status != reply.Status || other.Code != reply.Code || !same(other.Result, reply.Result):
		e.say(r.Task, "attempt %d was answered as %s (%s) %.80s, and also as %s (%s) %.80s", reply.Attempt,
			other.Status, other.Code, other.Result, reply.Status, reply.Code, reply.Result)
	}
}

// same reports whether two results are the same. If blob storage did not return a result, its size and its sum are
// compared.
func same(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	is := func(answered *reference, text []byte) bool {
		return answered != nil && answered.Size == len(text) && answered.SHA256 == fmt.Sprintf("%x", sha256.Sum256(text))
	}
	return is(referenceOf(a), b) || is(referenceOf(b), a)
}

// reference is the size and the sum of a result that was not returned.
type reference struct {
	Size   int
	SHA256 string
}

// referenceOf returns nil for a result that was returned.
func referenceOf(result json.RawMessage) *reference {
	var answered struct{ Blob *reference }
	if json.Unmarshal(result, &answered) != nil {
		return nil
	}
	return answered.Blob
}

// sight is the state of a task in an answer.
type sight struct {
	from, to int64 // times of the request and of the answer
	attempt  int
	over     bool // the attempt had ended
}

// reads: a request that is sent after an answer sees no older state.
func (e *evidence) reads() {
	for task, events := range e.about {
		if r := e.records[task]; r != nil && slices.ContainsFunc(r.Entries, func(entry history.Entry) bool { return givenBack(r, entry.Attempt) > 0 }) {
			continue // its attempts have the numbers of earlier ones
		}
		var seen []sight
		for _, event := range events {
			op := e.op(event)
			if op == "get" || op == "wait" || (op == "enqueue" && isFinal(event.Reply.Status)) {
				seen = append(seen, sight{e.asks[event.ID].At, event.At, event.Reply.Attempt, event.Reply.Status != "running"})
			}
		}
		for i := range seen {
			e.notBack(task, &seen[i], seen)
		}
	}
}

// notBack compares a sight with those of later requests.
func (e *evidence) notBack(task string, a *sight, all []sight) {
	for _, b := range all {
		older := b.attempt < a.attempt || (b.attempt == a.attempt && a.over && !b.over)
		if b.from > a.to && older {
			e.say(task, "stood at attempt %d (over: %v), and later at attempt %d (over: %v)", a.attempt, a.over, b.attempt, b.over)
		}
	}
}

// results: a done task has the right result, from the attempt that the record names.
func (e *evidence) results() {
	for i := range e.Store {
		r := &e.Store[i]
		if r.Status == "done" {
			e.result(r, r.Attempt, r.Result)
		}
		for _, event := range e.about[r.Task] {
			if event.Reply.Status == "done" && referenceOf(event.Reply.Result) == nil {
				e.result(r, event.Reply.Attempt, event.Reply.Result)
			}
		}
	}
}

func (e *evidence) result(r *history.Record, attempt int, text json.RawMessage) {
	var result struct {
		OK   bool
		Data json.RawMessage
	}
	nonce := payload(r).Nonce
	if err := json.Unmarshal(text, &result); err != nil || !result.OK {
		e.say(r.Task, "is done with the result %.80s", text)
		return
	}
	if r.Action == "upper" {
		if want := `"` + strings.ToUpper(nonce) + `"`; string(result.Data) != want {
			e.say(r.Task, "has the result %.80s, not %s", result.Data, want)
		}
		return
	}
	var data history.Result
	if err := json.Unmarshal(result.Data, &data); err != nil {
		e.say(r.Task, "has the result %.80s", result.Data)
		return
	}
	switch {
	case data.Hash != history.Hash(nonce):
		e.say(r.Task, "has the result of another nonce than %q: %s", nonce, data.Hash)
	case data.Attempt != attempt:
		e.say(r.Task, "is done by attempt %d with the result of attempt %d", attempt, data.Attempt)
	}
}

// errors: a client gets only refusals that it can expect, and only when it can expect them.
func (e *evidence) errors() {
	for i := range e.Clients {
		event := &e.Clients[i]
		if event.Reply == nil || event.Reply.Status != "error" || event.Kind == history.Stray {
			continue
		}
		switch code := event.Reply.Code; code {
		case "conflict", "not_found":
		case "key_conflict":
			e.keyConflict(event)
		case "unavailable", "overloaded", "draining", "unknown_outcome":
			if !e.trouble(e.wall(event)) {
				e.say(event.Reply.Task, "request %d was refused with %s when all was well: %s", event.ID, code, event.Reply.Error)
			}
		default:
			e.say(event.Reply.Task, "request %d was refused with %s: %s", event.ID, code, event.Reply.Error)
		}
	}
}

// keyConflict: a key conflicts only with another request.
func (e *evidence) keyConflict(event *history.Event) {
	ask := e.asks[event.ID].Ask
	if r := e.records[event.Reply.Task]; r != nil && payload(r).Nonce == ask.Nonce && r.Action == ask.Action {
		e.say(r.Task, "is the same request as %d, which was refused with key_conflict", event.ID)
	}
}
