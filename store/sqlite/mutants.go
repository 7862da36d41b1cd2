package sqlite

import (
	"database/sql/driver"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// The code in this file is used only by mutants. See internal/fail.

// reapStale queues the tasks that the last call found overdue, whatever their states are now, and then finds
// those that are overdue now.
func (t *maintenance) reapStale() error {
	for _, id := range t.overdue {
		const anyState = `UPDATE tasks SET state = 2, suspect = 1, due = NULL, history = CAST(history || ? AS BLOB)
			WHERE id = ? RETURNING ` + pack.Columns
		if _, err := t.moved(anyState, pack.Entry(task.Queued, t.now, "", "its lease had run out"), id); err != nil {
			return err
		}
	}
	t.overdue = nil
	return t.Query("SELECT id FROM tasks WHERE state = 3 AND due <= ?", func(row []driver.Value) error {
		id, _ := row[0].(string)
		t.overdue = append(t.overdue, id)
		return nil
	}, t.now)
}

// checkThenInsert looks up which keys are free, and returns a function that stores tasks on the assumption that
// they still are.
func (w *writer) checkThenInsert(tasks []task.Task) func(*task.Task) (store.Accepted, error) {
	free := map[string]bool{}
	for i := range tasks {
		q := w.queues.byName[tasks[i].Queue]
		found, err := w.existing(&task.Task{Options: task.Options{Key: tasks[i].Key}}, q)
		free[tasks[i].ID] = tasks[i].Key != "" && found == nil && err == nil
	}
	return func(t *task.Task) (store.Accepted, error) {
		if q := w.queues.byName[t.Queue]; q != nil && free[t.ID] {
			if _, err := w.Exec("UPDATE tasks SET key = NULL WHERE key = ?", keyOf(q, t.Key)); err != nil {
				return store.Accepted{}, err
			}
		}
		return w.accept(t)
	}
}
