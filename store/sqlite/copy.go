package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// Import implements store.Imports.
func (s *Store) Import(ctx context.Context, tasks []task.Task) ([]bool, error) {
	var stored []bool
	err := s.write(ctx, func(w *writer) error {
		stored = make([]bool, len(tasks))
		for i := range tasks {
			made, err := w.importTask(&tasks[i])
			if err != nil {
				return err
			}
			stored[i] = made
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// importTask writes the row of a whole task. It returns false if the id exists.
func (w *writer) importTask(t *task.Task) (bool, error) {
	there := false
	err := w.Query(sqlTaskByID, func([]driver.Value) error { there = true; return nil }, t.ID)
	if err != nil || there {
		return false, err
	}
	q := w.queues.byName[t.Queue]
	if q == nil {
		q = w.queues.make(t.Queue)
	}
	made, err := w.Exec(sqlImportTask, importArgs(t, q)...)
	if err == nil && made == 0 {
		err = task.Refuse(task.Internal, "task %s has the key of another task", t.ID)
	}
	if err != nil {
		return false, err
	}
	w.queues.move(q, "", t.State)
	if t.State == task.Queued && t.Reserved == "" {
		w.windows.Queued(q.number, t)
	}
	return true, nil
}

// importArgs returns the parameters of sqlImportTask.
func importArgs(t *task.Task, q *queue) []driver.Value {
	due := pack.Due(t)
	switch {
	case t.State == task.Running, t.Reserved != "":
		due = pack.Millis(t.Lease)
	case t.State.Final():
		due = pack.Millis(t.FinishedAt.Add(t.KeptFor(t.State)))
	}
	expires, node := pack.Millis(t.Expires), cmp.Or(t.Reserved, t.Node)
	return []driver.Value{
		t.ID, pack.RowState(t), laneNumber(q.number, t.Priority), t.Suspect, t.Cancelling,
		int64(t.Fence), int64(t.Failures), int64(t.Crashes), int64(t.MaxAttempts), t.Keep.Milliseconds(),
		pack.Millis(t.RunAt), expires, orNull(due != 0, due), t.Action, orNull(t.Key != "", keyOf(q, t.Key)),
		orNull(node != "", node), pack.Spec(t), bytesOrNull(pack.ProgressOf(t)), bytesOrNull(pack.OutcomeOf(t)),
		pack.History(t), bytesOrNull(t.Payload.Inline),
		pack.Reserved(t), int64(t.Fence - t.Attempt),
		t.KeepFailed.Milliseconds(), t.Failures == 0, // timed: a task that has failed waits for a backoff
		orNull(t.Owner != "", t.Owner),
	}
}

// orNull returns value if is is true, and NULL otherwise.
func orNull(is bool, value driver.Value) driver.Value {
	if !is {
		return nil
	}
	return value
}

func bytesOrNull(b []byte) driver.Value { return orNull(b != nil, b) }

// ImportQueues implements store.Imports.
func (s *Store) ImportQueues(ctx context.Context, queues []store.Queue) error {
	return s.write(ctx, func(w *writer) error {
		for _, asked := range queues {
			q := w.queues.byName[asked.Name]
			if q == nil && asked.Paused {
				q = w.queues.make(asked.Name)
			}
			if q != nil {
				q.Paused, q.Accepted, q.Finished = asked.Paused, asked.Accepted, asked.Finished
				w.queues.changed[q] = true
			}
		}
		return nil
	})
}
