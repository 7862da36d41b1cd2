package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/posta-tasks/posta/task"
)

// RetryPass is how long a task that was retried and has ended again is deferred when a retry by filter matches
// more tasks than its limit. A client that repeats the request while there is more therefore reaches the end,
// even if the tasks that it retries fail at once.
const RetryPass = 10 * time.Minute

// Picked lists the tasks that a change by filter acts on.
type Picked struct {
	IDs  []string // oldest first
	More bool     // the limit was reached, and more tasks match
}

// PickStates returns the states of the tasks that a Cancel or a Retry by filter picks. Without a state in the
// filter, Retry picks failed and cancelled tasks; done and scheduled tasks are picked only when the filter asks
// for them.
func PickStates(change task.Change, asked task.State) []task.State {
	if asked == "" && change == task.Retry {
		return []task.State{task.Failed, task.Cancelled}
	}
	var states []task.State
	for _, s := range task.States() {
		if _, allowed := change.Apply(s); allowed && (asked == "" || asked == s) {
			states = append(states, s)
		}
	}
	return states
}

// Picker chooses among the tasks that match a filter. The store adds the tasks in their order. A Picker is not
// safe for concurrent use.
type Picker struct {
	limit    int
	since    time.Time // tasks that were retried later are deferred
	first    []string  // ids of the others; at most limit+1
	deferred []retried // see postpone
	more     bool      // some deferred tasks were dropped
}

// retried is a deferred task: it was retried less than RetryPass ago.
type retried struct {
	id         string
	generation int
	place      int // its position among all tasks that match
}

// NewPicker returns a Picker of at most limit tasks. now is the time of the store.
func NewPicker(limit int, now time.Time) *Picker {
	return &Picker{limit: limit, since: now.Add(-RetryPass)}
}

// Add adds the next task that matches, and reports whether the Picker needs more tasks.
func (p *Picker) Add(t *task.Task) bool {
	if t.State.Final() && t.Generation > 0 && t.RunAt.After(p.since) {
		p.postpone(t)
		return true
	}
	p.first = append(p.first, t.ID)
	return len(p.first) <= p.limit
}

// postpone defers a task that was retried less than RetryPass ago. When there are too many, it keeps the tasks
// of the lowest generation, since the others have been retried more often.
func (p *Picker) postpone(t *task.Task) {
	p.deferred = append(p.deferred, retried{t.ID, t.Generation, len(p.first) + len(p.deferred)})
	if len(p.deferred) <= 2*p.limit+1 {
		return
	}
	p.more = true
	lowest := slices.MinFunc(p.deferred, func(a, b retried) int { return cmp.Compare(a.generation, b.generation) }).generation
	p.deferred = slices.DeleteFunc(p.deferred, func(r retried) bool { return r.generation > lowest })
	p.deferred = p.deferred[:min(len(p.deferred), p.limit+1)]
}

// Picked returns the chosen tasks: all that match if they are within the limit. Otherwise it chooses deferred
// tasks only when there are no others, and of these only the ones of the lowest generation.
func (p *Picker) Picked() Picked {
	switch {
	case !p.more && len(p.first)+len(p.deferred) <= p.limit:
		all := p.first
		for _, r := range p.deferred {
			all = slices.Insert(all, min(r.place, len(all)), r.id)
		}
		return Picked{IDs: all}
	case len(p.first) > 0:
		return Picked{IDs: p.first[:min(len(p.first), p.limit)], More: len(p.first) > p.limit}
	}
	lowest := slices.MinFunc(p.deferred, func(a, b retried) int { return cmp.Compare(a.generation, b.generation) }).generation
	var picked Picked
	for _, r := range p.deferred {
		switch {
		case r.generation > lowest:
		case len(picked.IDs) == p.limit:
			picked.More = true
		default:
			picked.IDs = append(picked.IDs, r.id)
		}
	}
	return picked
}
