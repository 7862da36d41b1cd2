package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"maps"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// Accept implements store.Tasks.
func (s *Store) Accept(ctx context.Context, tasks []task.Task) ([]store.Accepted, error) {
	answers := make([]store.Accepted, len(tasks))
	err := s.write(ctx, func(w *writer) error {
		for i := range tasks {
			answer, err := w.accept(&tasks[i])
			if err != nil {
				return err
			}
			answers[i] = answer
		}
		return fail.Error("accept.written")
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// accept stores a task if it is new and its queue is not full.
func (w *writer) accept(asked *task.Task) (store.Accepted, error) {
	q, refusal := w.queues.open(asked.Queue)
	if refusal == nil {
		refusal = w.queues.full(q)
	}
	if refusal == nil {
		t := w.draft(asked, q)
		made, err := w.insert(q, &t, asked.Delay == 0)
		if err != nil || made {
			return store.Accepted{Task: t}, err
		}
	}
	kept, err := w.existing(asked, q)
	if err != nil || kept == nil {
		return store.Accepted{Refusal: refusal}, err
	}
	same := kept.Action == asked.Action && kept.Payload.Equal(asked.Payload)
	kept.Payload.Inline = nil
	return store.Accepted{Task: *kept, Duplicate: true, SameRequest: same}, nil
}

// draft returns the task as it will be stored, with its payload.
func (w *writer) draft(asked *task.Task, q *queue) task.Task {
	now := pack.Time(w.now)
	options := asked.AcceptedAt(now)
	if options.RunAt.After(now) {
		return pack.Accepted(asked, task.Scheduled, false, now)
	}
	reserved := asked.Node != "" && !q.Paused && (options.Expires.IsZero() || options.Expires.After(now))
	return pack.Accepted(asked, task.Queued, reserved, now)
}

// insert writes the row of a new task and sets t to the answer. It returns false if the id or the key exists.
// timed says that the client chose RunAt itself, rather than a delay.
func (w *writer) insert(q *queue, t *task.Task, timed bool) (bool, error) {
	due, runAt, expires := driver.Value(nil), pack.Millis(t.RunAt), pack.Millis(t.Expires)
	switch {
	case t.Reserved != "":
		due = pack.Millis(t.Lease)
	case t.State == task.Scheduled && (expires == 0 || runAt <= expires):
		due = runAt
	case expires != 0:
		due = expires
	}
	var key, payload, node driver.Value
	if t.Key != "" {
		key = keyOf(q, t.Key)
	}
	if t.Payload.Inline != nil {
		payload = t.Payload.Inline
	}
	state := pack.StateNumber(t.State)
	if t.Reserved != "" {
		node, state = t.Reserved, pack.StateNumber(task.Running)
	}
	history := append([]byte(pack.NoHistory), pack.Entry(t.State, w.now, "", "")...)
	made, err := w.Exec(sqlAcceptTask, t.ID, state, laneNumber(q.number, t.Priority), int64(t.MaxAttempts),
		t.Keep.Milliseconds(), runAt, expires, due, t.Action, key, pack.Spec(t), payload, history, int64(t.Fence), node,
		t.KeepFailed.Milliseconds(), timed, orNull(t.Owner != "", t.Owner))
	if err != nil || made == 0 {
		return false, err
	}
	w.queues.move(q, "", t.State)
	t.Payload.Inline = nil
	t.Meta = maps.Clone(t.Meta)
	if t.Reserved != "" {
		w.reserved.update(&changed{Task: *t, queue: q, stored: 1})
	} else if t.State == task.Queued {
		w.windows.Queued(q.number, t)
	}
	return true, nil
}

// existing returns the task that prevents a new one from being stored: the one with its id, or else the one
// with its key. It returns nil if there is none. q may be nil.
func (w *writer) existing(asked *task.Task, q *queue) (found *task.Task, err error) {
	each := func(row []driver.Value) error {
		t, _, err := pack.Row(row, 1)
		found = &t
		return err
	}
	err = w.Query(sqlTaskByID, each, asked.ID)
	if err == nil && found == nil && q != nil && asked.Key != "" {
		err = w.Query(sqlTaskByKey, each, keyOf(q, asked.Key))
	}
	return found, err
}

// keyOf returns an idempotency key as it is stored.
func keyOf(q *queue, key string) string { return fmt.Sprint(q.number, ":", key) }
