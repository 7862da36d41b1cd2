package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// since returns when an action was entered, by the store's clock, in milliseconds.
func (w *writer) since(entered time.Time) int64 { return w.now - store.Since(entered).Milliseconds() }

// Enter implements store.Work.
func (s *Store) Enter(ctx context.Context, entered []store.Entered) ([]store.Recorded, error) {
	answers := make([]store.Recorded, len(entered))
	err := s.write(ctx, func(w *writer) error {
		for i := range entered {
			e := &entered[i]
			t, err := w.one(sqlEnterTask, pack.Begun(w.since(e.At)), pack.Worker(e.Worker, e.Definition), e.ID, int64(e.Fence))
			if err != nil {
				return err
			}
			if answers[i] = (store.Recorded{Stale: t == nil}); t != nil {
				answers[i].Task = *t
			}
		}
		return fail.Error("enter.written")
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// Renew implements store.Work.
func (s *Store) Renew(ctx context.Context, node string, held []store.Held) ([]store.Renewed, error) {
	answers := make([]store.Renewed, len(held))
	err := s.write(ctx, func(w *writer) error {
		lease := w.now + task.LeaseTime.Milliseconds()
		for i, h := range held {
			var progress driver.Value
			if h.Progress != nil {
				progress = pack.Progress(h.Progress)
				delete(w.reserved, h.ID)
			}
			answers[i] = store.Renewed{Lost: true}
			err := w.Query(sqlRenewLease, func(row []driver.Value) error {
				answers[i] = store.Renewed{Cancelling: pack.Int(row[0]) != 0}
				return nil
			}, lease, progress, h.ID, int64(h.Fence), node)
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

// Adopt implements store.Work.
func (s *Store) Adopt(ctx context.Context, node string, held []store.Held) ([]store.Renewed, error) {
	answers := make([]store.Renewed, len(held))
	err := s.write(ctx, func(w *writer) error {
		lease, mark := w.now+task.LeaseTime.Milliseconds(), pack.Adopted(node)
		for i, h := range held {
			var progress driver.Value
			if h.Progress != nil {
				progress = pack.Progress(h.Progress)
			}
			adopted, err := w.change(sqlAdoptTask, node, lease, progress, mark, h.ID, int64(h.Fence))
			if err != nil {
				return err
			}
			if answers[i] = (store.Renewed{Lost: len(adopted) == 0}); len(adopted) > 0 {
				answers[i].Cancelling = adopted[0].Cancelling
			}
		}
		return fail.Error("adopt.written")
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// Record implements store.Work.
func (s *Store) Record(ctx context.Context, outcomes []store.Outcome) ([]store.Recorded, error) {
	if err := store.Refuse(outcomes); err != nil {
		return nil, err
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

// record tries the change of an outcome, and then the changes that replace it. Their guards exclude each other,
// so at most one of them is made.
func (w *writer) record(o *store.Outcome) (store.Recorded, error) {
	if o.Change == task.Succeed {
		if t, err := w.succeed(o); t != nil || err != nil {
			return store.Recorded{Task: *cmp.Or(t, &task.Task{})}, err
		}
	}
	if o.Unentered {
		if t, err := w.unentered(o); t != nil || err != nil {
			return store.Recorded{Task: *cmp.Or(t, &task.Task{})}, err
		}
	}
	tries := []task.Change{o.Change, task.Cancel}
	switch o.Change {
	case task.Again:
		tries = []task.Change{task.Again, task.Fail, task.Cancel}
	case task.Expire:
		tries[0] = task.Release
	}
	for _, change := range tries {
		t, err := w.end(o, change)
		if t != nil || err != nil {
			return store.Recorded{Task: *cmp.Or(t, &task.Task{})}, err
		}
	}
	t, err := w.existing(&task.Task{ID: o.ID}, nil)
	if t == nil {
		t = &task.Task{}
	}
	t.Payload.Inline = nil
	return store.Recorded{Stale: true, Task: *t}, err
}

// after returns the time after a delay, in milliseconds.
func (w *writer) after(delay time.Duration) int64 { return w.now + delay.Milliseconds() }

// unentered ends the claim of a task that is still reserved. It returns nil if the task is not.
func (w *writer) unentered(o *store.Outcome) (*task.Task, error) {
	if o.Change != task.Cancel {
		t, err := w.leave(o)
		if t != nil || err != nil {
			return t, err
		}
	}
	return w.endOne(sqlCancelReserved, w.now, pack.Entry(task.Cancelled, w.now, "", ""), o.ID, int64(o.Fence), o.Change == task.Cancel)
}

// leave releases a claim, or fails the task if it has expired. It returns nil if the task must be cancelled.
func (w *writer) leave(o *store.Outcome) (*task.Task, error) {
	if o.Change == task.Expire {
		outcome, entry := w.expired()
		t, err := w.endOne(sqlExpireReserved, w.now, outcome, entry, o.ID, int64(o.Fence), w.now)
		if t != nil || err != nil {
			return t, err
		}
	}
	if o.Postpones() {
		at := w.after(o.Delay)
		return w.endOne(sqlGiveBackLater, at, at, at, pack.Entry(task.Scheduled, w.now, "", ""), o.ID, int64(o.Fence))
	}
	return w.endOne(sqlGiveBack, o.ID, int64(o.Fence))
}

// end makes one change that ends an attempt. It returns nil if the guard of the change does not hold.
func (w *writer) end(o *store.Outcome, change task.Change) (*task.Task, error) {
	to, _ := change.Apply(task.Running)
	why, fence := "", int64(o.Fence)
	begun, worker := pack.Begun(w.since(o.EnteredAt)), pack.Worker(o.Worker, o.Definition)
	if change == task.Fail || change == task.Again || change == task.Crash {
		why = o.Error
	}
	entry := pack.Entry(to, w.now, "", why)
	switch change {
	case task.Succeed:
		return w.endOne(sqlSucceedTask, w.now, pack.Outcome("", "", &o.Result), begun, worker, entry, o.ID, fence)
	case task.Fail:
		outcome := pack.Outcome(cmp.Or(o.Code, task.ActionFailed), why, &task.Body{})
		return w.endOne(sqlFailTask, w.now, outcome, begun, worker, entry, o.ID, fence)
	case task.Again:
		at := w.after(o.Delay)
		outcome := pack.Outcome(cmp.Or(o.Code, task.ActionFailed), why, &task.Body{})
		return w.endOne(sqlTryAgain, at, at, outcome, begun, worker, entry, o.ID, fence)
	case task.Crash:
		return w.endOne(sqlCrashTask, w.now, pack.Outcome(task.Crashed, why, &task.Body{}), begun, worker, entry, o.ID, fence)
	case task.Release:
		return w.release(o, begun, worker)
	default:
		return w.endOne(sqlEndCancelled, w.now, begun, worker, entry, o.ID, fence, o.Change == task.Cancel)
	}
}

// release gives a task back whose action was entered.
func (w *writer) release(o *store.Outcome, begun, worker []byte) (*task.Task, error) {
	at, fence := w.after(o.Delay), int64(o.Fence)
	switch {
	case o.TakesBack() && o.Postpones():
		return w.endOne(sqlTakeBackLater, at, at, at, begun, worker, pack.TakenBack(task.Scheduled, w.now), o.ID, fence)
	case o.TakesBack():
		return w.endOne(sqlTakeBack, begun, worker, pack.TakenBack(task.Queued, w.now), o.ID, fence)
	case o.Postpones():
		return w.endOne(sqlPostponeTask, at, at, begun, worker, pack.Entry(task.Scheduled, w.now, "", ""), o.ID, fence)
	default:
		return w.endOne(sqlReleaseTask, begun, worker, pack.Entry(task.Queued, w.now, "", ""), o.ID, fence)
	}
}
