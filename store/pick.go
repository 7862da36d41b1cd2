package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/posta-tasks/posta/task"
)

// RetryPass is how long a task that was retried by hand and has ended again stands back behind others
// when a retry by filter finds more than its limit. So a client that goes on while there is more
// gets to an end, even when what it retries fails at once.
const RetryPass = 10 * time.Minute

// Picked is what a change by filter is to act on.
type Picked struct {
	IDs  []string // the oldest first
	More bool     // the limit was reached, and others match
}

// PickStates returns the states of the tasks that a Cancel or a Retry by filter picks. A filter without
// a state retries failed and cancelled tasks; it must ask for done and scheduled ones.
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

// Picker chooses among the tasks that match a filter, which a store adds in their order.
type Picker struct {
	limit  int
	since  time.Time // what was retried after it stands back
	first  []string  // at most limit+1
	behind []retried // those that stand back; see add
	more   bool      // some of those have been left out
}

// retried is a task that stands back.
type retried struct {
	id         string
	generation int
	place      int // among all that match
}

// NewPicker makes a Picker of at most limit tasks; now is the time of the store.
func NewPicker(limit int, now time.Time) *Picker {
	return &Picker{limit: limit, since: now.Add(-RetryPass)}
}

// Add adds the next task that matches, and reports whether more are of use.
func (p *Picker) Add(t *task.Task) bool {
	if t.State.Final() && t.Generation > 0 && t.RunAt.After(p.since) {
		p.standBack(t)
		return true
	}
	p.first = append(p.first, t.ID)
	return len(p.first) <= p.limit
}

// standBack keeps a task that was retried a short while ago. When there are too many, those of the lowest
// generation stay: the others have had one turn more.
func (p *Picker) standBack(t *task.Task) {
	p.behind = append(p.behind, retried{t.ID, t.Generation, len(p.first) + len(p.behind)})
	if len(p.behind) <= 2*p.limit+1 {
		return
	}
	p.more = true
	lowest := slices.MinFunc(p.behind, func(a, b retried) int { return cmp.Compare(a.generation, b.generation) }).generation
	p.behind = slices.DeleteFunc(p.behind, func(r retried) bool { return r.generation > lowest })
	p.behind = p.behind[:min(len(p.behind), p.limit+1)]
}

// Picked returns what was chosen. If all that match are within the limit, these are all. Else those that stand
// back come only when there are no others, and of them those of the lowest generation.
func (p *Picker) Picked() Picked {
	switch {
	case !p.more && len(p.first)+len(p.behind) <= p.limit:
		all := p.first
		for _, r := range p.behind {
			all = slices.Insert(all, min(r.place, len(all)), r.id)
		}
		return Picked{IDs: all}
	case len(p.first) > 0:
		return Picked{IDs: p.first[:min(len(p.first), p.limit)], More: len(p.first) > p.limit}
	}
	lowest := slices.MinFunc(p.behind, func(a, b retried) int { return cmp.Compare(a.generation, b.generation) }).generation
	var picked Picked
	for _, r := range p.behind {
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
