package durable

import (
	"context"
	"iter"

	"github.com/posta-tasks/posta/task"
)

// Event is one thing that a watch tells of.
type Event struct {
	// Entry is of the history, also when it is an end that a retry by hand has undone; of progress, only
	// State and Attempt.
	Entry    task.Entry
	Progress *task.Progress // what the action says; nil: this is an entry
	Final    *task.Task     // with the last entry of a finished task: the watch ends
}

// Watch tells of a task: the entries of its history after one, as they come, and what its action
// says about itself, the newest only. It ends after the final entry (once more, if that was
// seen already), after a refusal (not_found, unavailable, overloaded, draining), and when ctx ends.
// A reader that is slow loses progress, never entries.
func (e *Engine) Watch(ctx context.Context, id string, after int) iter.Seq2[Event, *task.Error] {
	return func(yield func(Event, *task.Error) bool) {
		s, refusal := e.subs.Add(id, true)
		if refusal != nil {
			yield(Event{}, refusal)
			return
		}
		defer e.subs.Remove(s)
		w := &watcher{e: e, id: id, last: after, yield: yield}
		if !w.catchUp(ctx) {
			return
		}
		for {
			select {
			case <-s.Signal:
				if !w.pass(ctx, s.Receive()) {
					return
				}
			case <-ctx.Done():
				return
			case <-e.quit:
				yield(Event{}, refuseDraining(id))
				return
			}
		}
	}
}

// watcher is one watch.
type watcher struct {
	e     *Engine
	id    string
	last  int // the newest entry that the reader has
	yield func(Event, *task.Error) bool
}

// pass passes what was received to the reader, and reports whether the watch goes on.
func (w *watcher) pass(ctx context.Context, h received) bool {
	if h.Final != nil && h.Final.ID == "" {
		w.yield(Event{}, refuseNotFound(w.id))
		return false
	}
	entries := h.Entries
	for len(entries) > 0 && entries[0].Seq <= w.last {
		entries = entries[1:]
	}
	if h.Missed || (len(entries) == 0 && h.Final != nil) || w.misses(entries) {
		return w.catchUp(ctx)
	}
	if h.Final != nil {
		own := *h.Final // others have it, too
		own.Payload = task.Body{}
		h.Final = &own
	}
	if !w.history(entries, h.Final) {
		return false
	}
	if h.Progress == nil || h.Final != nil {
		return true
	}
	return w.yield(Event{
		Entry: task.Entry{State: task.Running, Attempt: h.Attempt}, Progress: h.Progress,
	}, nil)
}

// misses reports whether an entry is missing before these, or between them.
func (w *watcher) misses(entries []task.Entry) bool {
	for i := range entries {
		if entries[i].Seq != w.last+1+i {
			return true
		}
	}
	return false
}

// catchUp reads the task and gives the reader what it has not.
func (w *watcher) catchUp(ctx context.Context) bool {
	t, refusal := w.e.getWith(ctx, w.id, false)
	if refusal != nil {
		if ctx.Err() == nil {
			w.yield(Event{}, refusal)
		}
		return false
	}
	var final *task.Task
	if t.State.Final() {
		final = &t
	}
	return w.history(t.History, final)
}

// history passes the entries that the reader does not have. The last one of a finished
// task goes with it, even if the reader has that already.
func (w *watcher) history(entries []task.Entry, final *task.Task) bool {
	for _, entry := range entries {
		isFinal := final != nil && entry.Seq == final.History[len(final.History)-1].Seq
		if isFinal {
			w.yield(Event{Entry: entry, Final: final}, nil)
			return false
		}
		if entry.Seq <= w.last {
			continue
		}
		w.last = entry.Seq
		if !w.yield(Event{Entry: entry}, nil) {
			return false
		}
	}
	return true
}
