package sqlite

import (
	"strings"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// reservedTasks caches the rows of reserved tasks, as the statements of this writer left them. The success of
// such a task follows from its cached row, so the row need not be read again. The guard of the statement alone
// decides whether the change is made. Every other change of a row removes it from the cache.
type reservedTasks map[string]changed

// update caches a row that is reserved, and removes one that is not.
func (r reservedTasks) update(c *changed) {
	if c.Reserved == "" {
		delete(r, c.ID)
		return
	}
	kept := *c
	kept.Payload.Inline = nil
	r[c.ID] = kept
}

// succeedTask is sqlSucceedReserved without its RETURNING clause.
var succeedTask, _, _ = strings.Cut(sqlSucceedReserved, " RETURNING ")

// succeed enters and records the success of an attempt whose row is cached. It returns nil if the row is not
// cached or the guard does not hold.
func (w *writer) succeed(o *store.Outcome) (*task.Task, error) {
	run, known := w.reserved[o.ID]
	if !known || run.Fence != o.Fence || run.stored > task.HistoryEntries {
		return nil, nil
	}
	began := max(w.since(o.EnteredAt), pack.Millis(run.History[len(run.History)-1].At))
	entries := append(pack.Running(began, run.Reserved, o.Worker, o.Definition), pack.Entry(task.Done, w.now, "", "")...)
	made, err := w.Exec(succeedTask, w.now, pack.Outcome("", "", &o.Result), entries, o.ID, int64(o.Fence))
	if err != nil || made == 0 {
		return nil, err
	}
	delete(w.reserved, o.ID)
	w.queues.move(run.queue, task.Queued, task.Done)
	t := run.Task
	t.Attempt, t.Node, t.Worker, t.Reserved, t.StartedAt = t.Attempt+1, t.Reserved, o.Worker, "", pack.Time(began)
	running := task.Entry{
		Seq: t.History[len(t.History)-1].Seq + 1, State: task.Running, Attempt: t.Attempt, Generation: t.Generation,
		At: t.StartedAt, Node: t.Node, Worker: t.Worker,
	}
	done := running
	running.Definition = o.Definition
	done.Seq, done.State, done.At = running.Seq+1, task.Done, pack.Time(w.now)
	t.State, t.FinishedAt, t.History = task.Done, done.At, []task.Entry{running, done}
	t.Result, t.Code, t.Error = o.Result, "", ""
	t.Suspect, t.Cancelling = false, false
	t.Lease = pack.Time(0)
	return &t, nil
}
