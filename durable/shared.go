package durable

import (
	"context"
	"sync"

	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// Callers and tasks share calls of the store. An item that the store cannot take must not affect the others. If a
// call fails although the store is not away, it is repeated in parts (batch.Isolate) until each faulty item is
// alone. A faulty item is refused, and logged once.

// faultsMost is how many faulty items are remembered.
const faultsMost = 1_000

// faults remembers the faulty items that were logged.
type faults struct {
	mu   sync.Mutex // guards the field below
	seen map[string]bool
}

// first reports whether a faulty item is new, and remembers it.
func (f *faults) first(call, id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := call + " " + id
	if f.seen[at] {
		return false
	}
	if f.seen == nil || len(f.seen) >= faultsMost {
		f.seen = make(map[string]bool)
	}
	f.seen[at] = true
	return true
}

// blame logs an item that the store refuses, once for each kind of call.
func (c *core) blame(call, id string, err error) {
	if batch.IsItemFault(err) && c.faults.first(call, id) {
		c.config.Logger.Error("one task is refused in a call that others share; they go on without it", "call", call, "task", id, "error", err)
	}
}

// errUnresolved is the error of items in a failed call if there was no time to find the faulty one. errUnknown is
// the error of items that such a call may have changed.
func errUnresolved() error {
	return task.Refuse(task.Unavailable, "the store refused a call that several requests shared, and there was no time to try each alone; try again")
}

func errUnknown() error {
	return task.Refuse(task.UnknownOutcome, "the store refused a call that several requests shared, and there was no time to try each alone; whether this one was done is not known")
}

// found is the answer to a read: a task, whose ID is empty if it does not exist, or an error.
type found struct {
	task task.Task
	err  error
}

// readAll reads tasks in one call for all waiting callers. If a task cannot be read, the others still are.
func (c *core) readAll(ctx context.Context, ids []string) ([]found, error) {
	answers := make([]found, len(ids))
	errs := batch.Isolate(ctx, len(ids), errUnresolved(), func(from, to int) error {
		tasks, err := c.config.Store.Get(ctx, ids[from:to])
		for i := range tasks {
			answers[from+i].task = tasks[i]
		}
		return err
	})
	if isAway(errs) {
		return nil, errs[0]
	}
	for i, err := range errs {
		c.blame("get", ids[i], err)
		answers[i].err = err
	}
	return answers, nil
}

// isAway reports whether a call failed for all items because the store is away.
func isAway(errs []error) bool {
	for _, err := range errs {
		if err == nil || batch.IsItemFault(err) {
			return false
		}
	}
	return errs != nil
}

// changeAll makes a manual change in one call. errs has the errors of ids without an answer; nil: there are none.
func (c *core) changeAll(ctx context.Context, ids []string, call func(context.Context, []string) ([]store.Changed, error)) ([]store.Changed, []error) {
	answers := make([]store.Changed, len(ids))
	errs := batch.Isolate(ctx, len(ids), errUnknown(), func(from, to int) error {
		some, err := call(ctx, ids[from:to])
		copy(answers[from:to], some)
		return err
	})
	for i, err := range errs {
		c.blame("change", ids[i], err)
	}
	return answers, errs
}

// renewLeases renews leases of this node. A task whose progress the store refuses is renewed without its progress.
// The answers are as long as held. errs has the errors of tasks without an answer; nil: there are none.
func (c *core) renewLeases(ctx context.Context, held []store.Held) (answers []store.Renewed, errs []error) {
	answers = make([]store.Renewed, len(held))
	errs = batch.Isolate(ctx, len(held), errUnresolved(), func(from, to int) error {
		some, err := c.config.Store.Renew(ctx, c.config.Node, held[from:to])
		if only := held[from]; batch.IsItemFault(err) && to-from == 1 && only.Progress != nil {
			c.blame("renew", only.ID, err)
			only.Progress = nil
			some, err = c.config.Store.Renew(ctx, c.config.Node, []store.Held{only})
		}
		copy(answers[from:to], some)
		return err
	})
	for i, err := range errs {
		c.blame("renew", held[i].ID, err)
	}
	return answers, errs
}

// enterAll makes the store record which actions run. errs has the errors of tasks without an answer; nil: there are
// none.
func (c *core) enterAll(ctx context.Context, asked []store.Entered) ([]store.Recorded, []error) {
	answers := make([]store.Recorded, len(asked))
	errs := batch.Isolate(ctx, len(asked), errUnresolved(), func(from, to int) error {
		some, err := c.config.Store.Enter(ctx, asked[from:to])
		copy(answers[from:to], some)
		return err
	})
	for i, err := range errs {
		c.blame("enter", asked[i].ID, err)
	}
	return answers, errs
}
