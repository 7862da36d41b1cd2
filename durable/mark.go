package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// markAfter is how long an action runs before the store records that it runs. If an action is quicker, one statement
// records its start and its outcome.
const markAfter = 10 * time.Millisecond

// marker makes the store record which actions run, unless they end quickly.
type marker struct {
	*core
	publisher *publisher
}

// Run makes the store record which actions run, until ctx ends.
func (m *marker) Run(ctx context.Context) {
	for {
		select {
		case <-m.attempts.ToMark:
		case <-ctx.Done():
			return
		}
		for m.attempts.HasUnmarked() {
			if !wait.For(ctx, markAfter) {
				return
			}
			list, full := m.attempts.Mark(time.Now().Add(-markAfter), m.config.Slots+m.attempts.Remote())
			if len(list) == 0 && full {
				break // forgetting a marked attempt wakes the marker
			}
			if len(list) > 0 && m.note(ctx, list) != nil && !wait.For(ctx, awayMin) {
				return
			}
		}
	}
}

// note makes the store record in one call which actions run, and notifies watchers. It does not try again an
// attempt that the store cannot record; its outcome will say that it was entered.
func (m *marker) note(ctx context.Context, list []*attempt) error {
	asked := make([]store.Entered, len(list))
	for i, a := range list {
		asked[i] = m.attempts.Note(a)
	}
	call, cancel := context.WithTimeout(ctx, task.LeaseRenew)
	defer cancel()
	answers, errs := m.enterAll(call, asked)
	made := make([]task.Task, 0, len(answers))
	var noted, unanswered []*attempt
	var away error
	for i, a := range list {
		switch {
		case errs == nil || errs[i] == nil:
			if noted = append(noted, a); !answers[i].Stale {
				made = append(made, answers[i].Task)
			}
		case !batch.IsItemFault(errs[i]):
			unanswered, away = append(unanswered, a), errs[i]
		}
	}
	m.publisher.notify(made)
	m.attempts.Noted(noted)
	if away != nil {
		m.counts.storeAway.Add(1)
		m.attempts.Unmark(unanswered)
	}
	return away
}
