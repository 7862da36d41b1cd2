package sqlite

import (
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/file"
	"github.com/posta-tasks/posta/task"
)

// writer is the connection that writes, with the state that is kept in memory.
type writer struct {
	*file.Conn
	queues   queueSet
	windows  laneWindows
	reserved reservedTasks
	turn     int           // tasks returned by claims without ids
	now      int64         // when the running call began, in milliseconds
	ahead    time.Duration // how far the clock had been set at the last call
}

// followClock moves the ends of leases, delays and other spans of time if the clock has been set.
func (w *writer) followClock(ahead time.Duration) error {
	by := ahead - w.ahead
	if !store.IsJump(by) {
		return nil
	}
	for _, shift := range []string{sqlShiftTasks, sqlShiftNodes} {
		if _, err := w.Exec(shift, by.Milliseconds()); err != nil {
			return err
		}
	}
	w.ahead = ahead
	return nil
}

// reload goes back to the state that the last commit left.
func (w *writer) reload(c *file.Conn) error {
	clear(w.windows)
	clear(w.reserved)
	return w.queues.load(c)
}

// slackEntries is how many entries a history may have beyond task.HistoryEntries, so that it is not rewritten
// after each change.
const slackEntries = 64

// changed is a row as a statement has changed it.
type changed struct {
	task.Task
	from     task.State // the state before the newest entry of its history
	queue    *queue
	stored   int  // number of entries of its history
	reserved bool // it is reserved, or was when its latest claim ended
}

// change runs a statement that changes tasks and returns the changed rows. It does not count them.
func (w *writer) change(text string, args ...driver.Value) ([]changed, error) {
	var list []changed
	var long []int
	var histories [][]byte
	err := w.Query(text, func(row []driver.Value) error {
		t, line, err := pack.Row(row, 1)
		if err != nil {
			return err
		}
		q := w.queues.byNum[pack.Int(row[1])/lanesPerQueue]
		if q == nil {
			return fmt.Errorf("task %s: its queue %s does not exist: %w", t.ID, t.Queue, pack.ErrDamaged)
		}
		list = append(list, changed{Task: t, from: line.Before, queue: q, stored: line.Stored, reserved: line.Reserved})
		w.reserved.update(&list[len(list)-1])
		if line.Stored > task.HistoryEntries+slackEntries {
			long, histories = append(long, len(list)-1), append(histories, pack.Blob(row[8]))
		}
		return nil
	}, args...)
	for i := range long {
		if err == nil {
			err = w.trim(list[long[i]].ID, histories[i])
		}
	}
	return list, err
}

// trim removes the oldest entries of a history that is too long.
func (w *writer) trim(id string, history []byte) error {
	trimmed, err := pack.TrimHistory(history)
	if err == nil {
		_, err = w.Exec(sqlTrimTask, trimmed, id, history)
	}
	return err
}

// moved is change for statements that change the state. It counts the changes.
func (w *writer) moved(text string, args ...driver.Value) ([]task.Task, error) {
	list, err := w.change(text, args...)
	return w.count(list), err
}

// ended is moved for statements that end claims: a task whose action had not been entered was queued, not
// running.
func (w *writer) ended(text string, args ...driver.Value) ([]task.Task, error) {
	list, err := w.change(text, args...)
	for i := range list {
		if list[i].from = task.Running; list[i].reserved {
			list[i].from = task.Queued
		}
	}
	return w.count(list), err
}

// reserve is change for statements that claim. A reserved task stays queued, but not for other claims.
func (w *writer) reserve(text string, args ...driver.Value) ([]task.Task, error) {
	list, err := w.change(text, args...)
	if len(list) == 0 {
		return nil, err
	}
	tasks := make([]task.Task, 0, len(list))
	for i := range list {
		w.windows.Gone(list[i].queue.number, &list[i].Task)
		tasks = append(tasks, list[i].Task)
	}
	return tasks, err
}

// count counts changes of state and returns the tasks.
func (w *writer) count(list []changed) []task.Task {
	if len(list) == 0 {
		return nil
	}
	tasks := make([]task.Task, 0, len(list))
	for i := range list {
		c := &list[i]
		w.queues.move(c.queue, c.from, c.State)
		switch {
		case c.State == task.Queued:
			w.windows.Queued(c.queue.number, &c.Task)
		case c.from == task.Queued:
			w.windows.Gone(c.queue.number, &c.Task)
		}
		tasks = append(tasks, c.Task)
	}
	return tasks
}

// one is moved for statements that change at most one task. It returns nil if they change none.
func (w *writer) one(text string, args ...driver.Value) (*task.Task, error) {
	return first(w.moved(text, args...))
}

// endOne is ended for statements that change at most one task. It returns nil if they change none.
func (w *writer) endOne(text string, args ...driver.Value) (*task.Task, error) {
	return first(w.ended(text, args...))
}

func first(tasks []task.Task, err error) (*task.Task, error) {
	if err != nil || len(tasks) == 0 {
		return nil, err
	}
	return &tasks[0], nil
}
