package postgres

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// dueTimes are the columns of sqlNextDue, in milliseconds; nil means never.
type dueTimes struct {
	now                        int64
	waiting, running, finished *int64
}

func (s *Store) dueTimes(ctx context.Context) (d dueTimes, err error) {
	err = s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, sqlNextDue).Scan(&d.now, &d.waiting, &d.running, &d.finished)
	})
	if err == nil {
		s.ahead.Store(int64(time.Until(pack.Time(d.now))))
	}
	return d, err
}

// next returns when Maintain should be called next, or 0.
func (d dueTimes) next() int64 {
	next := int64(0)
	for _, at := range []*int64{d.waiting, d.running} {
		if at != nil && (next == 0 || *at < next) {
			next = *at
		}
	}
	if grace := store.DeleteGrace.Milliseconds(); d.finished != nil && (next == 0 || *d.finished+grace < next) {
		next = *d.finished + grace
	}
	return next
}

// any reports whether anything is due.
func (d dueTimes) any() bool { return d.has(d.waiting) || d.has(d.running) || d.has(d.finished) }

// has reports whether a time has come.
func (d dueTimes) has(at *int64) bool { return at != nil && *at <= d.now }

// Maintain implements store.Work. If nothing is due, it is one statement.
func (s *Store) Maintain(ctx context.Context, limit int) (store.Maintained, error) {
	var maintained store.Maintained
	d, err := s.dueTimes(ctx)
	if err != nil || !d.any() {
		return store.Maintained{Now: pack.Time(d.now), Next: pack.Time(d.next())}, err
	}
	t := maintenance{Store: s, Maintained: &maintained, limit: limit}
	steps := []struct {
		due *int64
		do  func(ctx context.Context) error
	}{{d.waiting, t.expire}, {d.waiting, t.promote}, {d.running, t.leases}, {d.finished, t.discard}}
	for _, step := range steps {
		if !d.has(step.due) {
			continue
		}
		if err := step.do(ctx); err != nil {
			return maintained, err
		}
	}
	if d, err = s.dueTimes(ctx); err != nil {
		return maintained, err
	}
	maintained.Now, maintained.Next = pack.Time(d.now), pack.Time(d.next())
	maintained.More = t.reached && d.any()
	return maintained, nil
}

// Recover implements store.Work.
func (s *Store) Recover(ctx context.Context, node string, actions []string) (store.Maintained, error) {
	return s.reap(ctx, func(t *maintenance) error {
		return t.reap(ctx, true, node, actions, "its process died")
	})
}

// Reap implements store.Work.
func (s *Store) Reap(ctx context.Context, node string, claims []store.Held, why string) (store.Maintained, error) {
	return s.reap(ctx, func(t *maintenance) error {
		every := allOf(len(claims))
		ids := collect(claims, every, func(h *store.Held) string { return h.ID })
		fences := collect(claims, every, func(h *store.Held) int32 { return int32(h.Fence) })
		args := append(append([]any{int64(0), node}, reapArgs("worker", why)...), ids, fences)
		return t.reapBy(ctx, sqlReapClaims, args...)
	})
}

// reap reaps tasks whatever their leases.
func (s *Store) reap(ctx context.Context, reap func(t *maintenance) error) (store.Maintained, error) {
	var maintained store.Maintained
	if err := reap(&maintenance{Store: s, Maintained: &maintained, limit: math.MaxInt32}); err != nil {
		return maintained, err
	}
	d, err := s.dueTimes(ctx)
	maintained.Now, maintained.Next = pack.Time(d.now), pack.Time(d.next())
	return maintained, err
}

// maintenance is the state of one call of Maintain or Recover.
type maintenance struct {
	*Store
	*store.Maintained
	limit   int
	reached bool // some step has reached the limit
}

// move runs a statement that changes tasks that are due.
func (t *maintenance) move(ctx context.Context, text string, args ...any) (list []changed, err error) {
	err = t.finish(ctx, func(ctx context.Context, c *pgx.Conn) error {
		list, err = scanner{entries: 1}.all(ctx, c, text, append([]any{t.limit}, args...)...)
		return err
	})
	t.reached = t.reached || len(list) >= t.limit
	return list, err
}

func all(*changed) bool { return true }

// expired returns the beginnings of the entry's tail and of the outcome of a task that expires. The statement
// appends the time, which only the row knows.
func expired() (tail, outcome []byte) {
	why := fmt.Sprintf("it had not started by %*s", expiresLength, "")
	_, tail = pack.StampedEntry(task.Failed, "", why)
	outcome = pack.Outcome(task.Expired, why, &task.Body{})
	return tail[:len(tail)-expiresLength], outcome[:len(outcome)-expiresLength-2]
}

// expire fails the tasks that have not started in time.
func (t *maintenance) expire(ctx context.Context) error {
	head, _ := pack.StampedEntry(task.Failed, "", "")
	tail, outcome := expired()
	list, err := t.move(ctx, sqlExpireTasks, head, tail, outcome)
	t.Expired = tasksOf(list, all)
	return err
}

func (t *maintenance) promote(ctx context.Context) error {
	head, tail := pack.StampedEntry(task.Queued, "", "")
	list, err := t.move(ctx, sqlPromoteTasks, head, tail)
	t.Promoted = tasksOf(list, all)
	return err
}

func (t *maintenance) leases(ctx context.Context) error {
	return t.reap(ctx, false, "", nil, "its lease ran out")
}

// reap takes tasks of some actions from nodes whose leases have ended, or if anyway is set, whatever their leases
// are. A nil list means every action.
func (t *maintenance) reap(ctx context.Context, anyway bool, node string, actions []string, why string) error {
	var always *int64
	if anyway {
		always = new(int64)
	}
	args := append(append([]any{always, node}, reapArgs("process", why)...), actions)
	return t.reapBy(ctx, sqlReapTasks, args...)
}

// reapArgs returns the parameters of a statement that reaps, from $4 to $8. who says what has died.
func reapArgs(who, why string) []any {
	cancelled, tail := pack.StampedEntry(task.Cancelled, "", why)
	failed, _ := pack.StampedEntry(task.Failed, "", "")
	queued, _ := pack.StampedEntry(task.Queued, "", "")
	crashed := store.DiedTooOften(who, task.MaxCrashes)
	return []any{cancelled, failed, queued, pack.Outcome(task.Crashed, crashed, &task.Body{}), tail}
}

// reapBy runs a statement that reaps.
func (t *maintenance) reapBy(ctx context.Context, text string, args ...any) error {
	list, err := t.move(ctx, text, args...)
	t.Cancelled = tasksOf(list, func(c *changed) bool { return c.State == task.Cancelled })
	t.Crashed = tasksOf(list, func(c *changed) bool { return c.State == task.Failed })
	t.Reaped = tasksOf(list, func(c *changed) bool { return c.State == task.Queued })
	return err
}
