package durable

import (
	"math"
	"slices"
	"time"

	"github.com/posta-tasks/posta/task"
)

// never is longer than anything waits.
const never = time.Duration(math.MaxInt64)

// publish tells of tasks that were accepted, promoted, given back or queued again: queued
// ones are offered to those who claim, and scheduled ones to whoever promotes.
func (e *Engine) publish(tasks []*task.Task) {
	first := never
	var queued []*task.Task
	for _, t := range tasks {
		if t.Reserved != "" {
			continue // its node has it
		}
		due := t.Expires
		switch t.State {
		case task.Queued:
			queued = append(queued, t)
		case task.Scheduled:
			if due.IsZero() || t.RunAt.Before(due) {
				due = t.RunAt
			}
		}
		if !due.IsZero() { // counted from the store's time, since ours may be another
			at := t.CreatedAt
			if n := len(t.History); n > 0 {
				at = t.History[n-1].At
			}
			first = min(first, due.Sub(at))
		}
	}
	if len(queued) > 0 && e.mailbox == nil {
		e.hub.offer(queued)
	} else if len(queued) > 0 {
		e.send(queued)
	}
	if first != never {
		e.hub.due(first)
	}
}

// wants tells whether the engine works any of these tasks. Suspects are for the lone engine,
// and wake it here.
func (e *Engine) wants(tasks []*task.Task) bool {
	found, suspect := false, false
	for _, t := range tasks {
		if !found && !t.Suspect {
			found = e.works(t)
		}
		suspect = suspect || t.Suspect
	}
	if suspect && e.config.Lone {
		e.suspects.Store(true)
		poke(e.wake)
	}
	return found && !e.draining.Load()
}

// works tells whether the engine has a task's action and queue.
func (e *Engine) works(t *task.Task) bool {
	if !slices.Contains(e.actions(), t.Action) {
		return false
	}
	if e.config.Queues == nil {
		return true
	}
	_, named := e.config.Queues[t.Queue]
	_, others := e.config.Queues["*"]
	return named || others
}

// stir has the engine look for tasks, now or as soon as it has room.
func (e *Engine) stir() {
	e.more.Store(true)
	poke(e.wake)
}
