package durable

import (
	"context"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// BulkMost bounds the tasks of one change by filter.
	BulkMost = 10_000
	// byHandMost bounds the tasks of one call of the store.
	byHandMost = 500
)

// Changed is the answer to a cancel or a retry of one task.
type Changed struct {
	Task    task.Task   // as it is now
	Made    bool        // false: it was so already, or Refusal says why not
	Refusal *task.Error // not_found, or conflict with the state
}

// Bulk is the answer to a change by filter.
type Bulk struct {
	Matched    int  // tasks that the filter selected and that could be changed
	Changed    int  // of these, those that are so now
	Cancelling int  // of these, those that run and were asked to stop
	More       bool // the limit was reached, and others match
}

// Cancel cancels tasks: scheduled and queued ones at once; running ones are Cancelling and
// end cancelled, unless the action succeeds first. Finished ones are a conflict, but for those
// that are cancelled already. The answers are in the order of the ids. The refusal of
// the whole is unavailable or unknown_outcome; a repeated call then does no harm.
func (e *Engine) Cancel(ctx context.Context, ids []string) ([]Changed, *task.Error) {
	answers, refusal := e.byHand(ctx, ids, e.config.Store.Cancel, func(s task.State) bool {
		return s == task.Cancelled || s == task.Running
	})
	fail.Point("cancel.told")
	return answers, refusal
}

// Retry queues finished tasks again, with all their attempts, and scheduled ones at once, in their
// generation. Queued and running ones are a conflict, and so is a cancelled one whose key another task
// has taken. Otherwise it is as Cancel, but that a call repeated after unknown_outcome may find a conflict.
func (e *Engine) Retry(ctx context.Context, ids []string) ([]Changed, *task.Error) {
	answers, refusal := e.byHand(ctx, ids, e.config.Store.Retry, func(task.State) bool { return false })
	fail.Point("retry.told")
	return answers, refusal
}

// CancelWhere cancels tasks that a filter selects, at most query.Limit (1 to BulkMost) of them:
// the scheduled and queued ones first, the newest first.
func (e *Engine) CancelWhere(ctx context.Context, query store.Query) (Bulk, *task.Error) {
	return e.where(ctx, query, []task.State{task.Scheduled, task.Queued, task.Running}, e.Cancel)
}

// RetryWhere queues tasks again that a filter selects, as CancelWhere: failed and cancelled
// ones, and done ones only if the filter asks for that state.
func (e *Engine) RetryWhere(ctx context.Context, query store.Query) (Bulk, *task.Error) {
	return e.where(ctx, query, []task.State{task.Failed, task.Cancelled}, e.Retry)
}

// byHand makes changes that somebody asks for and tells of them. isSo says of which states a
// task that was not changed is no conflict.
func (e *Engine) byHand(ctx context.Context, ids []string,
	call func(context.Context, []string) ([]store.Changed, error), isSo func(task.State) bool,
) ([]Changed, *task.Error) {
	answers := make([]Changed, 0, len(ids))
	for len(ids) > 0 {
		n := min(len(ids), byHandMost)
		some, cancel := context.WithTimeout(ctx, storeTimeout)
		changed, errs := e.changeAll(some, ids[:n], call)
		cancel()
		if errs != nil {
			e.counts.storeAway.Add(1)
		}
		if isAway(errs) {
			return answers, refusalOf(errs[0])
		}
		fail.Point("change.committed")
		if errs == nil {
			answers = e.changed(answers, changed, isSo)
		}
		for i, err := range errs {
			if err != nil {
				answers = append(answers, Changed{Refusal: refusalOf(err)})
			} else {
				answers = e.changed(answers, changed[i:i+1], isSo)
			}
		}
		ids = ids[n:]
	}
	return answers, nil
}

// changed appends our answers to those of the store.
func (e *Engine) changed(answers []Changed, list []store.Changed, isSo func(task.State) bool) []Changed {
	var made []task.Task
	for i := range list {
		c := &list[i]
		answer := Changed{Task: c.Task, Made: c.Made}
		switch {
		case c.Made:
			made = append(made, c.Task)
			e.counts.ended(c.State)
		case c.State == "":
			answer.Refusal = refuseNotFound(c.ID)
		case !isSo(c.State):
			answer.Refusal = refuseChange(c)
		}
		answers = append(answers, answer)
	}
	e.tell(made)
	e.publish(pointers(made))
	return answers
}

// refuseChange refuses a change that the state of a task does not allow.
func refuseChange(c *store.Changed) *task.Error {
	refusal := task.Refuse(task.Conflict, "task %s is %s", c.ID, c.State)
	if c.KeyHolder != "" {
		refusal = task.Refuse(task.Conflict, "task %s is cancelled, and task %s has its key %q now: cancel that one first, or enqueue a new task",
			c.ID, c.KeyHolder, c.Task.Key)
	}
	refusal.Task, refusal.State = c.ID, string(c.State)
	return refusal
}

// where changes what a filter selects; states are those that can be changed, for a filter that
// names none.
func (e *Engine) where(ctx context.Context, query store.Query, states []task.State,
	change func(context.Context, []string) ([]Changed, *task.Error),
) (Bulk, *task.Error) {
	if query.State != "" {
		states = []task.State{query.State}
	}
	left := max(1, min(query.Limit, BulkMost))
	var bulk Bulk
	for _, state := range states {
		query.State, query.Limit = state, max(left, 1)
		page, refusal := e.List(ctx, query)
		if refusal != nil {
			return bulk, refusal
		}
		if left == 0 {
			bulk.More = bulk.More || len(page.Tasks) > 0
			continue
		}
		bulk.More = bulk.More || page.Cursor != ""
		bulk.Matched += len(page.Tasks)
		left -= len(page.Tasks)
		ids := make([]string, len(page.Tasks))
		for i := range page.Tasks {
			ids[i] = page.Tasks[i].ID
		}
		changed, refusal := change(ctx, ids)
		bulk.add(changed)
		if refusal != nil {
			return bulk, refusal
		}
	}
	return bulk, nil
}

// add counts what was changed.
func (b *Bulk) add(list []Changed) {
	for i := range list {
		switch c := &list[i]; {
		case c.Refusal != nil:
		case c.Task.State == task.Running:
			b.Cancelling++
		case c.Made:
			b.Changed++
		}
	}
}
