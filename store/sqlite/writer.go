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

// writer is what a change of the file needs: the connection, and what is kept in memory.
type writer struct {
	*file.Conn
	queues  queueSet
	windows laneWindows
	runs    runs
	turn    int           // tasks given to claims without ids
	now     int64         // when the call under way began
	ahead   time.Duration // how far the clock had been set at the call before
	overdue []string      // of a mutant
}

// follow moves the ends of leases, delays and the like when the clock has been set.
func (w *writer) follow(ahead time.Duration) error {
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

// fresh goes back to what the last commit left.
func (w *writer) fresh(c *file.Conn) error {
	clear(w.windows)
	clear(w.runs)
	return w.queues.load(c)
}

// slackEntries is how many entries a history may have beyond those that are kept, so that
// it is not written anew for each.
const slackEntries = 64

// changed is a row that a statement has changed.
type changed struct {
	task.Task
	from     task.State // that the newest entry of its history led away from
	queue    *queue
	stored   int  // entries of its history
	reserved bool // it is, or was when its latest claim ended
}

// change runs a statement that changes tasks and returns their rows, and counts them.
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
			return fmt.Errorf("task %s: its queue %s is not there: %w", t.ID, t.Queue, pack.ErrDamaged)
		}
		list = append(list, changed{Task: t, from: line.Before, queue: q, stored: line.Stored, reserved: line.Reserved})
		w.runs.note(&list[len(list)-1])
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

// trim drops what a history has too much.
func (w *writer) trim(id string, history []byte) error {
	trimmed, err := pack.TrimHistory(history)
	if err == nil {
		_, err = w.Exec(sqlTrimTask, trimmed, id, history)
	}
	return err
}

// moved is change for statements that make a change of state.
func (w *writer) moved(text string, args ...driver.Value) ([]task.Task, error) {
	list, err := w.change(text, args...)
	return w.count(list), err
}

// ended is moved for statements that end claims: what was not entered before was queued.
func (w *writer) ended(text string, args ...driver.Value) ([]task.Task, error) {
	list, err := w.change(text, args...)
	for i := range list {
		if list[i].from = task.Running; list[i].reserved {
			list[i].from = task.Queued
		}
	}
	return w.count(list), err
}

// reserve is moved for statements that claim: what is reserved stays queued, but not for other claims.
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

// count counts changes of state, and gives the tasks.
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

// one is moved for statements that change one task at most; it gives nil when there was
// none.
func (w *writer) one(text string, args ...driver.Value) (*task.Task, error) {
	return first(w.moved(text, args...))
}

// endOne is ended for statements that change one task at most.
func (w *writer) endOne(text string, args ...driver.Value) (*task.Task, error) {
	return first(w.ended(text, args...))
}

func first(tasks []task.Task, err error) (*task.Task, error) {
	if err != nil || len(tasks) == 0 {
		return nil, err
	}
	return &tasks[0], nil
}
