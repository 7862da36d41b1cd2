package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Event is one event of a watch: an entry of the task's history, or progress that its
// action reported (then Progress is set and Seq is 0), or, last, how the task ended.
type Event struct {
	Task    string     `json:"task"`
	State   task.State `json:"status"`
	Attempt int        `json:"attempt"`
	Seq     int        `json:"seq,omitempty"` // of the entry, from 1
	At      time.Time  `json:"at,omitzero"`
	Node    string     `json:"node,omitempty"`
	Worker  string     `json:"worker,omitempty"`
	// Definition is the hash of the definition that a running attempt uses, of an action from an actions file.
	Definition string    `json:"definition,omitempty"`
	Progress   *Progress `json:"progress,omitempty"`
	Result     Result    `json:"result,omitzero"` // of a done task, in its last event
	Error      string    `json:"error,omitempty"` // of the attempt, or of a failed task
	Code       task.Code `json:"code,omitempty"`  // of a failed task
	// Retried means that a manual retry has undone this end: more events follow.
	Retried bool `json:"retried,omitempty"`
}

// IsLast reports whether the task is finished with this event, so that no event follows.
func (e *Event) IsLast() bool { return e.State.Final() && !e.Retried }

// Watch yields the events of a task as they happen: the entries of its history whose seq is
// greater than after, and its latest progress. The last event is the one whose IsLast is
// true; for a finished task it follows the history at once. If the watch fails, the error is
// yielded last. The sequence may be ranged over several times.
//
// When the node drains or the connection ends, the watch continues on another connection
// after the last entry that it yielded. Entries are neither lost nor repeated; progress may
// be lost. Watches do not count as unanswered requests of a connection. The protocol has no
// op that ends a watch: if the loop is left or ctx ends early, the Client drops the
// remaining lines of the task, and replaces a connection that has many such watches.
func (c *Client) Watch(ctx context.Context, id string, after int) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := &watch{c: c, id: id, after: after, yield: yield}
		for again := true; again; {
			var err error
			if again, err = w.try(ctx); err != nil {
				yield(Event{}, err)
				return
			}
		}
	}
}

// watch is the state of one Watch.
type watch struct {
	c      *Client
	id     string
	after  int // seq of the newest entry that was yielded
	yield  func(Event, error) bool
	broken error // the error of an invalid line
	past   resends
}

// try sends the request once, and reports whether to send it again.
func (w *watch) try(ctx context.Context) (again bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("watch: %w", err)
	}
	f := newFollower(shapeWatch, w.past)
	f.reads = true
	f.begin(wire.OpWatch)
	f.text("task", w.id)
	f.number("after", w.after)
	if err := w.c.endCheckedLine(&f.call); err != nil {
		return false, err
	}
	end, err := w.c.follow(ctx, f, w.pass)
	switch {
	case end == endLeft:
		return false, w.broken
	case end != endSettled:
		return end == endTooSlow, err
	case f.fate == answered && f.err == nil:
		w.pass([][]byte{f.result})
		return false, w.broken
	}
	again, err = w.c.retry(ctx, f)
	w.past = f.resends()
	return again, err
}

// pass yields the events of lines, but of progress only the latest. It returns false when the
// loop was left or a line is invalid.
func (w *watch) pass(lines [][]byte) bool {
	for i, line := range lines {
		var e Event
		if w.broken = parseReply(line, &e); w.broken != nil {
			return false
		}
		if e.Progress != nil && i < len(lines)-1 || e.Seq > 0 && e.Seq <= w.after && !e.IsLast() {
			continue
		}
		w.after = max(w.after, e.Seq)
		if !w.yield(e, nil) {
			return false
		}
	}
	return true
}
