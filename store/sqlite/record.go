package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/statement"
	"github.com/posta-tasks/posta/task"
)

// Renew implements store.Work.
func (s *Store) Renew(ctx context.Context, node string, held []store.Held) ([]store.Renewed, error) {
	answers := make([]store.Renewed, len(held))
	err := s.write(ctx, func(w *writer) error {
		lease := w.now + task.LeaseTime.Milliseconds()
		for i, h := range held {
			var progress driver.Value
			if h.Progress != nil {
				progress = pack.Progress(h.Progress)
				delete(w.runs, h.ID)
			}
			answers[i] = store.Renewed{Lost: true}
			err := w.Query(statement.RenewLease, func(row []driver.Value) error {
				answers[i] = store.Renewed{Cancelling: pack.Int(row[0]) != 0}
				return nil
			}, lease, progress, h.ID, int64(h.Attempt), node)
			if err != nil {
				return err
			}
		}
		return fail.Error("renew.written")
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// Record implements store.Work.
func (s *Store) Record(ctx context.Context, outcomes []store.Outcome) ([]store.Recorded, error) {
	for _, o := range outcomes {
		switch o.Change {
		case task.Succeed, task.Fail, task.Again, task.Release, task.Crash, task.Cancel:
		default:
			return nil, task.Refuse(task.Internal, "an attempt of task %s cannot end with %q", o.ID, o.Change)
		}
	}
	answers := make([]store.Recorded, len(outcomes))
	err := s.write(ctx, func(w *writer) error {
		for i := range outcomes {
			answer, err := w.record(&outcomes[i])
			if err != nil {
				return err
			}
			answers[i] = answer
		}
		return fail.Error("record.written")
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// record tries the change of an outcome, and then those that stand for it: each is guarded
// by what it presupposes, so at most one of them is made.
func (w *writer) record(o *store.Outcome) (store.Recorded, error) {
	if o.Change == task.Succeed {
		if t, err := w.succeed(o); t != nil || err != nil {
			return store.Recorded{Task: *cmp.Or(t, &task.Task{})}, err
		}
	}
	tries := []task.Change{o.Change, task.Cancel}
	if o.Change == task.Again {
		tries = []task.Change{task.Again, task.Fail, task.Cancel}
	}
	for _, change := range tries {
		t, err := w.end(o, change)
		if t != nil || err != nil {
			return store.Recorded{Task: *cmp.Or(t, &task.Task{})}, err
		}
	}
	t, err := w.kept(&task.Task{ID: o.ID}, nil)
	if t == nil {
		t = &task.Task{}
	}
	t.Payload.Inline = nil
	return store.Recorded{Stale: true, Task: *t}, err
}

// end makes one change that ends an attempt, and gives nil when its guard does not hold.
func (w *writer) end(o *store.Outcome, change task.Change) (*task.Task, error) {
	to, _ := change.Apply(task.Running)
	why, attempt := "", int64(o.Attempt)
	if change == task.Fail || change == task.Again || change == task.Crash {
		why = o.Error
	}
	entry := pack.Entry(to, w.now, "", why)
	switch change {
	case task.Succeed:
		return w.one(statement.SucceedTask, w.now, pack.Outcome("", "", &o.Result), entry, o.ID, attempt)
	case task.Fail:
		outcome := pack.Outcome(cmp.Or(o.Code, task.ActionFailed), why, &task.Body{})
		return w.one(statement.FailTask, w.now, outcome, entry, o.ID, attempt)
	case task.Again:
		at := pack.Millis(o.RunAt)
		outcome := pack.Outcome(cmp.Or(o.Code, task.ActionFailed), why, &task.Body{})
		return w.one(statement.TryAgain, at, at, outcome, entry, o.ID, attempt)
	case task.Crash:
		return w.one(statement.CrashTask, w.now, pack.Outcome(task.Crashed, why, &task.Body{}), entry, o.ID, attempt)
	case task.Release:
		return w.one(statement.ReleaseTask, entry, o.ID, attempt)
	default:
		return w.one(statement.EndCancelled, w.now, entry, o.ID, attempt, o.Change == task.Cancel)
	}
}
