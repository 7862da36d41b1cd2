package durable

import (
	"context"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// BulkMost is the largest number of tasks of one change by filter.
	BulkMost = 10_000
	// manualMost is the largest number of tasks in one call of the store.
	manualMost = 500
)

// Changed is the answer to a cancel or a retry of one task.
type Changed struct {
	Task    task.Task   // the current task
	Made    bool        // false: nothing had to be changed, or Refusal says why it was not
	Refusal *task.Error // not_found, or conflict with the state
}

// Cancel cancels tasks: scheduled and queued ones at once. Running ones are Cancelling, and end cancelled unless
// the action succeeds first. A done or failed task is a conflict. The answers are in the order of the ids. If the
// whole call is refused with unavailable or unknown_outcome, repeating it does no harm.
func (e *Engine) Cancel(ctx context.Context, ids []string) ([]Changed, *task.Error) {
	answers, refusal := e.byHand(ctx, ids, e.config.Store.Cancel, func(t *task.Task) bool {
		return t.State == task.Cancelled || t.Cancelling
	})
	fail.Point("cancel.notified")
	return answers, refusal
}

// Retry queues finished tasks again with all their attempts, and scheduled tasks at once in their generation. A
// queued or running task is a conflict, and so is a cancelled task whose key another task has. Otherwise Retry is
// like Cancel, but after unknown_outcome a repeated call may find a conflict.
func (e *Engine) Retry(ctx context.Context, ids []string) ([]Changed, *task.Error) {
	answers, refusal := e.byHand(ctx, ids, e.config.Store.Retry, func(*task.Task) bool { return false })
	fail.Point("retry.notified")
	return answers, refusal
}

// CancelWhere cancels the unfinished tasks that match a filter when the call begins, at most query.Limit (1 to
// BulkMost) of them, the oldest first. Each is cancelled once, whatever its state is by then. Running tasks that
// were asked to stop before do not match.
func (e *Engine) CancelWhere(ctx context.Context, query store.Query) (Bulk, *task.Error) {
	return e.where(ctx, query, task.Cancel, e.Cancel)
}

// RetryWhere retries the tasks that match a filter when the call begins, at most query.Limit (1 to BulkMost) of
// them: failed and cancelled ones, or those in the state in the filter (done and scheduled are allowed too), in the
// order in which they ended. A task that fails again during the call is not retried by it. In later calls it comes
// after the others (store.RetryPass), so that a caller that repeats the call while there is More terminates.
func (e *Engine) RetryWhere(ctx context.Context, query store.Query) (Bulk, *task.Error) {
	return e.where(ctx, query, task.Retry, e.Retry)
}

// byHand makes manual changes and publishes them. isSo reports whether a state that was not changed is already the
// requested one.
func (e *Engine) byHand(ctx context.Context, ids []string,
	call func(context.Context, []string) ([]store.Changed, error), isSo func(*task.Task) bool,
) ([]Changed, *task.Error) {
	answers := make([]Changed, 0, len(ids))
	for len(ids) > 0 {
		n := min(len(ids), manualMost)
		some, cancel := context.WithTimeout(ctx, storeTimeout)
		changed, errs := e.changeAll(some, ids[:n], call)
		cancel()
		if errs != nil {
			e.counts.storeAway.Add(1)
		}
		if isAway(errs) {
			return answers, e.refusalOf(errs[0])
		}
		fail.Point("change.committed")
		if errs == nil {
			answers = e.changed(answers, changed, isSo)
		}
		for i, err := range errs {
			if err != nil {
				answers = append(answers, Changed{Refusal: e.refusalOf(err)})
			} else {
				answers = e.changed(answers, changed[i:i+1], isSo)
			}
		}
		ids = ids[n:]
	}
	return answers, nil
}

// changed appends the answers for those of the store.
func (e *Engine) changed(answers []Changed, list []store.Changed, isSo func(*task.Task) bool) []Changed {
	var made []task.Task
	for i := range list {
		c := &list[i]
		answer := Changed{Task: c.Task, Made: c.Made}
		switch {
		case c.Made:
			if made = append(made, c.Task); !c.Task.Cancelling {
				e.counts.count(c.State)
			}
		case c.State == "":
			answer.Refusal = RefuseNotFound(c.ID)
		case !isSo(&c.Task):
			answer.Refusal = refuseChange(c)
		}
		answers = append(answers, answer)
	}
	e.publisher.notify(made)
	e.publisher.publish(pointers(made))
	return answers
}

// refuseChange returns the refusal of a change that the state of the task does not allow.
func refuseChange(c *store.Changed) *task.Error {
	refusal := task.Refuse(task.Conflict, "task %s is %s", c.ID, c.State)
	if c.KeyHolder != "" {
		refusal = task.Refuse(task.Conflict, "task %s is cancelled, and task %s has its key %q now: cancel that one first, or enqueue a new task",
			c.ID, c.KeyHolder, c.Task.Key)
	}
	refusal.Task, refusal.State = c.ID, string(c.State)
	return refusal
}

// where changes the tasks that match a filter. One call of the store picks them by id. A task that changes its
// state meanwhile is changed in its new state.
func (e *Engine) where(ctx context.Context, query store.Query, what task.Change,
	change func(context.Context, []string) ([]Changed, *task.Error),
) (Bulk, *task.Error) {
	query.Limit = max(1, min(query.Limit, BulkMost))
	look, cancel := context.WithTimeout(ctx, storeTimeout)
	picked, err := e.config.Store.Pick(look, what, query)
	cancel()
	if err != nil {
		return Bulk{}, e.readRefusal(err)
	}
	bulk := Bulk{Matched: len(picked.IDs), More: picked.More}
	changed, refusal := change(ctx, picked.IDs)
	count(&bulk, changed)
	return bulk, refusal
}

// count counts the changes.
func count(b *Bulk, list []Changed) {
	for i := range list {
		switch c := &list[i]; {
		case c.Refusal != nil:
		case c.Task.Cancelling:
			b.Cancelling++
		case c.Made:
			b.Changed++
		}
	}
}
