package sqlite

import (
	"strings"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/statement"
	"github.com/posta-tasks/posta/task"
)

// runs is the tasks that run, as the statements of this writer left them. What a success makes of such a row
// follows from it, so that the row need not be read again: the guard in the statement alone decides
// whether the change is made. Each other change of a row takes it out.
type runs map[string]changed

// note keeps what was claimed, and forgets what has changed in another way.
func (r runs) note(c *changed) {
	if c.from != task.Queued || c.State != task.Running {
		delete(r, c.ID)
		return
	}
	kept := *c
	kept.Payload.Inline = nil
	r[c.ID] = kept
}

// succeedTask is statement.SucceedTask without its rows.
var succeedTask, _, _ = strings.Cut(statement.SucceedTask, " RETURNING ")

// succeed records the success of an attempt that is known here; nil means that it is not, or that the guard
// does not hold.
func (w *writer) succeed(o *store.Outcome) (*task.Task, error) {
	run, known := w.runs[o.ID]
	if !known || run.Attempt != o.Attempt || run.stored > task.HistoryEntries {
		return nil, nil
	}
	made, err := w.Exec(succeedTask, w.now, pack.Outcome("", "", &o.Result), pack.Entry(task.Done, w.now, "", ""),
		o.ID, int64(o.Attempt))
	if err != nil || made == 0 {
		return nil, err
	}
	delete(w.runs, o.ID)
	w.queues.move(run.queue, task.Running, task.Done)
	t := run.Task
	entry := t.History[len(t.History)-1]
	entry.Seq, entry.State, entry.At = entry.Seq+1, task.Done, pack.Time(w.now)
	t.State, t.FinishedAt, t.History = task.Done, entry.At, []task.Entry{entry}
	t.Result, t.Code, t.Error = o.Result, "", ""
	t.Suspect, t.Cancelling = false, false
	t.Lease = pack.Time(0)
	return &t, nil
}
