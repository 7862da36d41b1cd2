package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/task"
)

// discard is what becomes of a finished task past its keep; it leads to no state.
const discard task.Change = "discard"

// late tells whether a task should have started by now and has not.
func late(t *task.Task, now time.Time) bool {
	return t.Attempt == 0 && !t.Expires.IsZero() && !t.Expires.After(now)
}

// notStarted says why a task expires.
func notStarted(t *task.Task) string {
	return fmt.Sprintf("it had not started by %s", t.Expires.UTC().Format(time.RFC3339))
}

// due says what time will do to a task, and when; "" means nothing.
func due(t *task.Task, now time.Time) (task.Change, time.Time) {
	expires := t.Attempt == 0 && !t.Expires.IsZero()
	switch {
	case t.State.Final():
		return discard, t.FinishedAt.Add(t.KeptFor(t.State))
	case leased(t):
		return task.Reap, t.Lease
	case late(t, now):
		return task.Expire, t.Expires
	case t.State == task.Scheduled && !(expires && t.Expires.Before(t.RunAt)):
		return task.Promote, t.RunAt
	case expires:
		return task.Expire, t.Expires
	}
	return "", time.Time{}
}

// dueTask is a task that time does something to.
type dueTask struct {
	*task.Task
	change task.Change
	at     time.Time
}

// Tend implements Work.
func (m *Memory) Tend(ctx context.Context, limit int) (Tended, error) {
	if err := m.lock(ctx); err != nil {
		return Tended{}, err
	}
	defer m.mu.Unlock()
	var tended Tended
	made := map[task.Change]int{}
	for _, d := range m.allDue() {
		if made[d.change] == limit {
			tended.More = true
			continue
		}
		made[d.change]++
		m.tend(d, &tended)
	}
	tended.Now, tended.Next = m.now, m.nextDue()
	return tended, nil
}

// allDue lists what time does now, what has been due longest first.
func (m *Memory) allDue() []dueTask {
	var list []dueTask
	now := m.now
	for _, t := range m.tasks {
		if change, at := due(t, now); change != "" && !at.After(now) {
			list = append(list, dueTask{t, change, at})
		}
	}
	slices.SortFunc(list, func(a, b dueTask) int {
		return cmp.Or(a.at.Compare(b.at), strings.Compare(a.ID, b.ID))
	})
	return list
}

// nextDue gives the time at which the next thing falls due, or has fallen due.
func (m *Memory) nextDue() time.Time {
	var next time.Time
	now := m.now
	for _, t := range m.tasks {
		if change, at := due(t, now); change != "" && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

func (m *Memory) tend(d dueTask, tended *Tended) {
	t := d.Task
	switch d.change {
	case task.Expire:
		why := notStarted(t)
		m.change(t, task.Expire, why, func() { t.Code, t.Error = task.Expired, why })
		tended.Expired = append(tended.Expired, brief(t))
	case task.Promote:
		m.change(t, task.Promote, "", func() {})
		tended.Promoted = append(tended.Promoted, brief(t))
	case task.Reap:
		m.reap(t, "its lease ran out", m.lives(t), tended)
	case discard:
		tended.Deleted = append(tended.Deleted, brief(t))
		delete(m.tasks, t.ID)
		delete(m.spans, t.ID)
		m.releaseKey(t)
		q := m.queues[t.Queue]
		q.remove(t)
		m.forget(q)
	}
}
