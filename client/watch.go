package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Event is one thing that a watch tells of: an entry of the task's history, what its
// action says about itself (then Progress is set and Seq is 0), or, at last, how it
// ended.
type Event struct {
	Task     string     `json:"task"`
	State    task.State `json:"status"`
	Attempt  int        `json:"attempt"`
	Seq      int        `json:"seq,omitempty"` // of the entry, from 1
	At       time.Time  `json:"at,omitzero"`
	Node     string     `json:"node,omitempty"`
	Progress *Progress  `json:"progress,omitempty"`
	Result   Result     `json:"result,omitzero"` // of a done task, in its last event
	Error    string     `json:"error,omitempty"` // of the attempt, or of a failed task
	Code     task.Code  `json:"code,omitempty"`  // of a failed task
	// Retried marks an end that a retry by hand has undone: other events follow.
	Retried bool `json:"retried,omitempty"`
}

// IsLast reports whether the task is finished with this event, so that no other one follows.
func (e *Event) IsLast() bool { return e.State.Final() && !e.Retried }

// Watch tells of a task: the entries of its history whose seq is greater than after, as
// they come, and its progress, the newest only. The last event is the one whose IsLast is
// true; of a task that is finished it comes at once, behind its history. An error is
// yielded last, too. The sequence may be ranged over several times.
//
// When its node drains or its connection ends, the watch goes on elsewhere, after the
// last entry that was seen: entries are neither lost nor repeated, progress may be lost.
// Watches are not counted among the unanswered requests of a connection. The protocol
// has no word for the end of a watch, so when the loop is left or ctx ends before the
// task does, its lines are dropped until they end by themselves; a connection with many
// of them is replaced.
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

// watch is one Watch.
type watch struct {
	c      *Client
	id     string
	after  int // seq of the newest entry that was seen
	yield  func(Event, error) bool
	broken error // a line could not be understood
	past   resends
}

// try asks once, and tells whether to ask again.
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
	end, err := w.c.follow(ctx, f, w.tell)
	switch {
	case end == endLeft:
		return false, w.broken
	case end != endSettled:
		return end == endCutOff, err
	case f.fate == answered && f.err == nil:
		w.tell([][]byte{f.result})
		return false, w.broken
	}
	again, err = w.c.retry(ctx, f)
	w.past = f.resends()
	return again, err
}

// tell yields the events of some lines, but no progress that is not the newest. It
// returns false when the caller has enough, or a line cannot be understood.
func (w *watch) tell(lines [][]byte) bool {
	for i, line := range lines {
		var e Event
		if w.broken = understand(line, &e); w.broken != nil {
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
