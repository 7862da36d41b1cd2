// Package check checks a chaos run. It compares the answers to clients, what actions did, and the tasks in the
// store at the end, and lists the broken promises. It knows the promises of the system, and not how it works.
package check

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

// Violation is a broken promise.
type Violation struct {
	Promise string
	Task    string
	Text    string
}

// String returns the violation as a report shows it.
func (v Violation) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s: %s %s", v.Promise, v.Task, v.Text))
}

// promise is something that the system promises, and the function that looks for violations.
type promise struct {
	name  string
	check func(*evidence)
}

// Endless is the promise that a run also breaks if it was too short.
const Endless = "every task reaches a final state"

// promises returns all promises.
func promises() []promise {
	return []promise{
		{"accepted is never lost", (*evidence).lost},
		{Endless, (*evidence).unfinished},
		{"one final state for each generation, by allowed changes", (*evidence).paths},
		{"only a retry by a client leaves a final state", (*evidence).retries},
		{"answers are correct", (*evidence).compareAnswers},
		{"reads do not go back", (*evidence).reads},
		{"a result is right, and from the attempt that the record names", (*evidence).results},
		{"nothing unrequested", (*evidence).phantoms},
		{"same key, same task", (*evidence).keys},
		{"a task that is cancelling ends cancelled or done", (*evidence).cancelling},
		{"no run after a final answer", (*evidence).resurrections},
		{"each attempt starts once, and its history has the start", (*evidence).claims},
		{"only failures of the action count as failed attempts", (*evidence).failures},
		{"only a poison task has crashed", (*evidence).crashes},
		{"errors are honest", (*evidence).errors},
	}
}

// Promises returns the names of the promises.
func Promises() []string {
	var names []string
	for _, p := range promises() {
		names = append(names, p.name)
	}
	return names
}

// Verdict is the result of a check.
type Verdict struct {
	Violations []Violation
	Counts     Counts
}

// Run checks a run.
func Run(run *history.Run) Verdict {
	e := gather(run)
	for _, p := range promises() {
		e.promise = p.name
		p.check(e)
	}
	return Verdict{Violations: e.violations, Counts: e.count()}
}

// evidence is a run, indexed for the checks.
type evidence struct {
	*history.Run
	promise    string // the promise that is being checked
	violations []Violation

	asks    map[int]*history.Event      // the invoke of each request
	replies map[int][]*history.Event    // of each request, in their order
	records map[string]*history.Record  // by task
	byNonce map[string][]*history.Ask   // enqueues
	about   map[string][]*history.Event // replies that name a task, by task
	asked   map[string][]*history.Event // invokes of cancel and retry, by task
	journal map[string][]*history.Execution
}

func gather(run *history.Run) *evidence {
	e := &evidence{
		Run: run, asks: map[int]*history.Event{}, replies: map[int][]*history.Event{}, records: map[string]*history.Record{},
		byNonce: map[string][]*history.Ask{}, about: map[string][]*history.Event{}, asked: map[string][]*history.Event{},
		journal: map[string][]*history.Execution{},
	}
	for i := range run.Clients {
		e.add(&run.Clients[i])
	}
	for i := range run.Store {
		e.records[run.Store[i].Task] = &run.Store[i]
	}
	for i := range run.Journal {
		x := &run.Journal[i]
		e.journal[x.Task] = append(e.journal[x.Task], x)
	}
	return e
}

// add indexes an event of a client.
func (e *evidence) add(event *history.Event) {
	if event.Kind == history.Invoke {
		e.asks[event.ID] = event
		switch event.Ask.Op {
		case "enqueue":
			e.byNonce[event.Ask.Nonce] = append(e.byNonce[event.Ask.Nonce], event.Ask)
		case "cancel", "retry":
			e.asked[event.Ask.Task] = append(e.asked[event.Ask.Task], event)
		}
		return
	}
	e.replies[event.ID] = append(e.replies[event.ID], event)
	if event.Kind == history.OK && event.Reply.Task != "" {
		e.about[event.Reply.Task] = append(e.about[event.Reply.Task], event)
	}
}

// say adds a violation of the promise that is being checked.
func (e *evidence) say(task, format string, args ...any) {
	e.violations = append(e.violations, Violation{Promise: e.promise, Task: task, Text: fmt.Sprintf(format, args...)})
}

// op returns the op that a reply answers; "" if it is unknown.
func (e *evidence) op(event *history.Event) string {
	if ask := e.asks[event.ID]; ask != nil {
		return ask.Ask.Op
	}
	return ""
}

// wall returns the time of an event in Unix nanoseconds.
func (e *evidence) wall(event *history.Event) int64 { return e.About.Began + event.At }

// payload returns the payload of a task. If the action is not one of chaos, it has only the nonce.
func payload(r *history.Record) (p history.Payload) {
	if json.Unmarshal(r.Payload, &p) != nil {
		_ = json.Unmarshal(r.Payload, &p.Nonce) // what has neither form has no nonce
	}
	return p
}

// deed returns what a task's action does.
func deed(r *history.Record) string { return history.Deed(r.Action) }

// isRemote reports whether a worker runs the task.
func isRemote(r *history.Record) bool { return strings.HasPrefix(r.Action, history.OnWorker) }

// isGivenBack reports whether a worker has given an attempt back: it does not count, and the next one has its number.
func isGivenBack(r *history.Record, last, entry *history.Entry) bool {
	return isRemote(r) && last.Status == "running" && entry.Status == "queued" && entry.Attempt == last.Attempt-1
}

// givenBack counts how often a worker has given an attempt back.
func givenBack(r *history.Record, attempt int) (n int) {
	for i := 1; i < len(r.Entries); i++ {
		if isGivenBack(r, &r.Entries[i-1], &r.Entries[i]) && r.Entries[i-1].Attempt == attempt {
			n++
		}
	}
	return n
}

// isFinal reports whether a status is final.
func isFinal(status string) bool {
	return status == "done" || status == "failed" || status == "cancelled" || status == history.Ended
}

// refused reports whether a request was answered only with errors, so that nothing was done.
func (e *evidence) refused(id int) bool {
	list := e.replies[id]
	return len(list) > 0 && !slices.ContainsFunc(list, func(r *history.Event) bool { return r.Kind != history.Fail })
}

// trouble reports whether there was a fault around a time.
func (e *evidence) trouble(at int64) bool {
	const before, after = 25 * time.Second, time.Second
	return slices.ContainsFunc(e.Happened, func(o history.Occurrence) bool {
		return o.What != history.Up && at > o.At-int64(after) && at < o.At+int64(before)
	})
}
