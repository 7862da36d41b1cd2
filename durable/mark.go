package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// markAfter is how long an action must run until the store is told that it does: what has ended by then is recorded by one
// statement that knows of both.
const markAfter = 10 * time.Millisecond

// mark has the store note which actions run, until ctx ends.
func (e *Engine) mark(ctx context.Context) {
	for {
		select {
		case <-e.marks:
		case <-ctx.Done():
			return
		}
		for e.hands.Fresh() {
			if !pause(ctx, markAfter) {
				return
			}
			list, full := e.hands.Mark(markAfter, e.config.Slots)
			if len(list) == 0 && full {
				break // whoever leaves a mark wakes us
			}
			if len(list) == 0 {
				continue
			}
			if e.note(ctx, list) != nil && !pause(ctx, awayMin) {
				return
			}
		}
	}
}

// note has the store note in one call which actions run, and tells those who watch. One that the store cannot note is not
// tried again and harms no other: its outcome will say that it was entered.
func (e *Engine) note(ctx context.Context, list []*attempt) error {
	asked := make([]store.Entered, len(list))
	for i, h := range list {
		asked[i] = e.hands.Note(h)
	}
	call, cancel := context.WithTimeout(ctx, task.LeaseRenew)
	defer cancel()
	answers, errs := e.enterAll(call, asked)
	made := make([]task.Task, 0, len(answers))
	var noted, unanswered []*attempt
	var away error
	for i, h := range list {
		switch {
		case errs == nil || errs[i] == nil:
			if noted = append(noted, h); !answers[i].Stale {
				made = append(made, answers[i].Task)
			}
		case !batch.IsItemFault(errs[i]):
			unanswered, away = append(unanswered, h), errs[i]
		}
	}
	e.tell(made)
	e.hands.Noted(noted)
	poke(e.news) // what they said waits for that
	if away != nil {
		e.counts.storeAway.Add(1)
		e.hands.Unmark(unanswered)
	}
	return away
}
