package durable

import (
	"context"
	"iter"

	"github.com/posta-tasks/posta/task"
)

// Event is an event of a watch.
type Event struct {
	// Entry is an entry of the history, which may be a final state that a retry has left. For progress it has only
	// State and Attempt.
	Entry    task.Entry
	Progress *task.Progress // the reported progress; nil: the event is an entry
	Final    *task.Task     // set with the last entry of a finished task; then the watch ends
}

// Watch yields the entries of the history of a task after one, as they occur, and the latest progress that its
// action reports. It ends after the final entry (which it repeats if the caller has it already), after a refusal
// (not_found, unavailable, overloaded, draining), and when ctx ends. A slow reader loses progress, but no entries.
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

// pass passes received events to the reader, and reports whether the watch continues.
func (w *watcher) pass(ctx context.Context, r received) bool {
	if r.Final != nil && r.Final.ID == "" {
		w.yield(Event{}, RefuseNotFound(w.id))
		return false
	}
	entries := r.Entries
	for len(entries) > 0 && entries[0].Seq <= w.last {
		entries = entries[1:]
	}
	if r.Missed || (len(entries) == 0 && r.Final != nil) || w.misses(entries) {
		return w.catchUp(ctx)
	}
	if r.Final != nil {
		own := *r.Final // the task is shared
		own.Payload = task.Body{}
		r.Final = &own
	}
	if !w.history(entries, r.Final) {
		return false
	}
	if r.Progress == nil || r.Final != nil {
		return true
	}
	return w.yield(Event{
		Entry: task.Entry{State: task.Running, Attempt: r.Attempt}, Progress: r.Progress,
	}, nil)
}

// misses reports whether an entry is missing before or between these.
func (w *watcher) misses(entries []task.Entry) bool {
	for i := range entries {
		if entries[i].Seq != w.last+1+i {
			return true
		}
	}
	return false
}

// catchUp reads the task and passes the missing entries to the reader.
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

// history passes the entries that the reader does not have. It always passes the last entry of a finished task.
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
