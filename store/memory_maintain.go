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

// discard deletes a finished task past its keep. It is not in the table of package task, since it leads to no
// state.
const discard task.Change = "discard"

// late reports whether a task has expired: it has not started in time.
func late(t *task.Task, now time.Time) bool {
	return t.Attempt == 0 && !t.Expires.IsZero() && !t.Expires.After(now)
}

// notStarted returns the error of a task that expires.
func notStarted(t *task.Task) string {
	return fmt.Sprintf("it had not started by %s", t.Expires.UTC().Format(time.RFC3339))
}

// due returns which change time will make of a task, and when; "" means none.
func due(t *task.Task, now time.Time) (task.Change, time.Time) {
	expires := t.Attempt == 0 && !t.Expires.IsZero()
	switch {
	case t.State.Final():
		return discard, t.FinishedAt.Add(t.KeptFor(t.State))
	case t.IsLeased():
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

// dueTask is a task with the change that time makes of it.
type dueTask struct {
	*task.Task
	change task.Change
	at     time.Time
}

// Maintain implements Work.
func (m *Memory) Maintain(ctx context.Context, limit int) (Maintained, error) {
	if err := m.lock(ctx); err != nil {
		return Maintained{}, err
	}
	defer m.mu.Unlock()
	var maintained Maintained
	made := map[task.Change]int{}
	for _, d := range m.allDue() {
		if made[d.change] == limit {
			maintained.More = true
			continue
		}
		made[d.change]++
		m.maintain(d, &maintained)
	}
	maintained.Now, maintained.Next = m.now, m.nextDue()
	return maintained, nil
}

// allDue returns the changes that are due now, longest due first.
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

// nextDue returns the time of the next change, which may be in the past, or the zero time if there is none.
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

func (m *Memory) maintain(d dueTask, maintained *Maintained) {
	t := d.Task
	switch d.change {
	case task.Expire:
		why := notStarted(t)
		m.change(t, task.Expire, why, func() { t.Code, t.Error = task.Expired, why })
		maintained.Expired = append(maintained.Expired, briefCopy(t))
	case task.Promote:
		m.change(t, task.Promote, "", func() {})
		maintained.Promoted = append(maintained.Promoted, briefCopy(t))
	case task.Reap:
		m.reap(t, reason{"process", "its lease ran out"}, m.holderIsAlive(t), maintained)
	case discard:
		maintained.Deleted = append(maintained.Deleted, briefCopy(t))
		delete(m.tasks, t.ID)
		delete(m.movable, t.ID)
		m.releaseKey(t)
		q := m.queues[t.Queue]
		q.remove(t)
		m.dropIfEmpty(q)
	}
}
