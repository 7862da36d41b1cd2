package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// Maintain implements store.Work.
func (s *Store) Maintain(ctx context.Context, limit int) (store.Maintained, error) {
	var maintained store.Maintained
	err := s.write(ctx, func(w *writer) error {
		maintained = store.Maintained{}
		t := maintenance{writer: w, Maintained: &maintained, limit: limit}
		for _, step := range []func() error{t.expire, t.promote, t.leases, t.discard, t.next} {
			if err := step(); err != nil {
				return err
			}
		}
		maintained.More = t.reached && !maintained.Next.IsZero() && !maintained.Next.After(pack.Time(w.now))
		return nil
	})
	return maintained, err
}

// Recover implements store.Work.
func (s *Store) Recover(ctx context.Context, node string, actions []string) (store.Maintained, error) {
	var maintained store.Maintained
	err := s.write(ctx, func(w *writer) error {
		maintained = store.Maintained{}
		t := maintenance{writer: w, Maintained: &maintained, limit: math.MaxInt}
		if err := t.reap(math.MaxInt64, node, listed(actions), "its process died"); err != nil {
			return err
		}
		if err := fail.Error("recover.written"); err != nil {
			return err
		}
		return t.next()
	})
	if err == nil {
		fail.Point("recover.committed")
	}
	return maintained, err
}

// maintenance is the state of one call of Maintain or Recover.
type maintenance struct {
	*writer
	*store.Maintained
	limit   int
	reached bool // some step has reached the limit
}

// made notes that a step has changed n tasks.
func (t *maintenance) made(n int) {
	if n >= t.limit {
		t.reached = true
	}
}

// expired returns the beginnings of the outcome and of the entry of a task that expires. The length of the
// error is known, since every time is written with the same length. So the statement can append the time, which
// only the row knows, to both.
func (w *writer) expired() (outcome, entry []byte) {
	why := fmt.Sprintf("it had not started by %*s", expiresLength, "")
	outcome = pack.Outcome(task.Expired, why, &task.Body{})
	entry = pack.Entry(task.Failed, w.now, "", why)
	return outcome[:len(outcome)-expiresLength-2], entry[:len(entry)-expiresLength]
}

// expire fails the tasks that have not started in time.
func (t *maintenance) expire() (err error) {
	outcome, entry := t.expired()
	t.Expired, err = t.moved(sqlExpireTasks, t.now, outcome, entry, t.now, t.now, t.now, t.now, t.limit64())
	byTime(t.Expired, func(t *task.Task) time.Time { return t.Expires })
	t.made(len(t.Expired))
	if err == nil && len(t.Expired) > 0 {
		err = fail.Error("expire.written")
	}
	return err
}

// byTime sorts tasks by when they were due, since SQLite returns them in any order.
func byTime(tasks []task.Task, due func(t *task.Task) time.Time) {
	slices.SortFunc(tasks, func(a, b task.Task) int {
		return cmp.Or(due(&a).Compare(due(&b)), strings.Compare(a.ID, b.ID))
	})
}

func (t *maintenance) limit64() int64 { return int64(t.limit) }

func (t *maintenance) promote() (err error) {
	t.Promoted, err = t.moved(sqlPromoteTasks, pack.Entry(task.Queued, t.now, "", ""), t.now, t.now, t.limit64())
	byTime(t.Promoted, func(t *task.Task) time.Time { return t.RunAt })
	t.made(len(t.Promoted))
	if err == nil && len(t.Promoted) > 0 {
		err = fail.Error("promote.written")
	}
	return err
}

func (t *maintenance) leases() error {
	return t.reap(t.now, "", "", "its lease ran out")
}

// listed returns a list of actions as a parameter of hasClaim; nil selects every action.
func listed(actions []string) string {
	if actions == nil {
		return ""
	}
	return "\n" + strings.Join(actions, "\n") + "\n"
}

// reap takes tasks of some actions from the node whose leases end at until or before, in milliseconds; "" means
// every node, and every action.
func (t *maintenance) reap(until int64, node, actions, why string) (err error) {
	left := t.limit64()
	step := func(text string, args ...driver.Value) (tasks []task.Task) {
		if err == nil {
			tasks, err = t.ended(text, append(args, until, node, node, actions, actions, left)...)
			left -= int64(len(tasks))
			byTime(tasks, func(t *task.Task) time.Time { return t.StartedAt })
		}
		return tasks
	}
	crashed := store.DiedTooOften("process", task.MaxCrashes)
	t.Cancelled = step(sqlReapCancel, t.now, until, pack.Entry(task.Cancelled, t.now, "", why))
	queued := pack.Entry(task.Queued, t.now, "", why)
	t.Reaped = step(sqlReapLiving, queued) // the remaining leases belong to processes that died
	t.Crashed = step(sqlReapCrashed, t.now, pack.Outcome(task.Crashed, crashed, &task.Body{}),
		pack.Entry(task.Failed, t.now, "", why))
	t.Reaped = append(t.Reaped, step(sqlReapTasks, queued)...)
	t.made(t.limit - int(left))
	if err == nil && left < t.limit64() {
		err = fail.Error("reap.written")
	}
	return err
}

// Reap implements store.Work.
func (s *Store) Reap(ctx context.Context, node string, claims []store.Held, why string) (store.Maintained, error) {
	var maintained store.Maintained
	err := s.write(ctx, func(w *writer) error {
		maintained = store.Maintained{}
		t := maintenance{writer: w, Maintained: &maintained, limit: math.MaxInt}
		for i := range claims {
			if err := t.reapClaim(node, &claims[i], why); err != nil {
				return err
			}
		}
		if err := t.next(); err != nil {
			return err
		}
		return fail.Error("abandon.written")
	})
	return maintained, err
}

// reapClaim takes a task from a node whose worker has died. The guards of its statements exclude each other.
func (t *maintenance) reapClaim(node string, c *store.Held, why string) error {
	outcome := pack.Outcome(task.Crashed, store.DiedTooOften("worker", task.MaxCrashes), &task.Body{})
	for _, step := range []struct {
		into *[]task.Task
		text string
		args []driver.Value
	}{
		{&t.Cancelled, sqlReapCancelOf, []driver.Value{t.now, pack.Entry(task.Cancelled, t.now, "", why)}},
		{&t.Crashed, sqlReapCrashedOf, []driver.Value{t.now, outcome, pack.Entry(task.Failed, t.now, "", why)}},
		{&t.Reaped, sqlReapTaskOf, []driver.Value{pack.Entry(task.Queued, t.now, "", why)}},
	} {
		reaped, err := t.ended(step.text, append(step.args, c.ID, int64(c.Fence), node)...)
		if err != nil {
			return err
		}
		*step.into = append(*step.into, reaped...)
		if len(reaped) > 0 {
			break
		}
	}
	return nil
}

// discard deletes finished tasks that are past their keep.
func (t *maintenance) discard() error {
	gone, err := t.change(sqlDiscardTasks, t.now, t.now, t.now, t.limit64())
	for _, c := range gone {
		t.queues.move(c.queue, c.State, "")
		t.Deleted = append(t.Deleted, c.Task)
	}
	byTime(t.Deleted, func(t *task.Task) time.Time { return t.FinishedAt.Add(t.KeptFor(t.State)) })
	t.made(len(gone))
	if err == nil && len(gone) > 0 {
		err = fail.Error("discard.written")
	}
	return err
}

// next sets when the next task is due.
func (t *maintenance) next() error {
	t.Now = pack.Time(t.now)
	return t.Query(sqlNextDue, func(row []driver.Value) error {
		t.Next = pack.Time(pack.Int(row[0]))
		return nil
	})
}
