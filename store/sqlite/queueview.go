package sqlite

import (
	"context"
	"database/sql/driver"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/file"
	"github.com/posta-tasks/posta/task"
)

// queueView holds the queues as the last commit left them. All but the writer read the queues here. Its methods
// are safe for concurrent use.
type queueView struct {
	mu     sync.Mutex
	queues map[string]queue
}

// update applies the queues that a commit has changed.
func (v *queueView) update(changed []*queue) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, q := range changed {
		if q.gone() {
			delete(v.queues, q.Name)
		} else {
			v.queues[q.Name] = *q
		}
	}
}

// list returns all queues, sorted by name.
func (v *queueView) list() []queue {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.SortedFunc(maps.Values(v.queues), func(a, b queue) int { return strings.Compare(a.Name, b.Name) })
}

// number returns the number of a queue. ok is false if there is no such queue.
func (v *queueView) number(name string) (n int64, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	q, ok := v.queues[name]
	return q.number, ok
}

// Queues implements store.Queues.
func (s *Store) Queues(ctx context.Context) ([]store.Queue, error) {
	var list []store.Queue
	err := s.file.Read(ctx, func(c *file.Conn) error {
		list = nil
		now, _ := s.clock.Read()
		reserved, err := firstReserved(c)
		if err != nil {
			return err
		}
		for _, q := range s.view.list() {
			if q.Queued > 0 {
				oldest, err := oldestOf(c, q.number, reserved[q.number])
				if err != nil {
					return err
				}
				q.Oldest, q.OldestAge = oldest, max(now.Sub(oldest), 0)
			}
			list = append(list, q.Queue)
		}
		return nil
	})
	return list, err
}

// Waiting implements store.Queues.
func (s *Store) Waiting(ctx context.Context) ([]store.Waiting, error) {
	var list []store.Waiting
	err := s.file.Read(ctx, func(c *file.Conn) error {
		list = nil
		for _, q := range s.view.list() {
			actions := map[string]bool{}
			for priority := range lanesPerQueue {
				if err := waitingIn(c, &q, task.Priority(priority), actions); err != nil {
					return err
				}
			}
			for _, action := range slices.Sorted(maps.Keys(actions)) {
				list = append(list, store.Waiting{Queue: q.Name, Action: action})
			}
		}
		return ctx.Err()
	})
	return list, err
}

// waitingIn adds the actions of the scheduled and queued tasks with one priority.
func waitingIn(c *file.Conn, q *queue, priority task.Priority, actions map[string]bool) error {
	var finds []string
	if q.Queued > 0 {
		finds = append(finds, sqlNextQueued, sqlNextSuspect)
	}
	if q.Scheduled > 0 {
		finds = append(finds, sqlNextScheduled)
	}
	for _, find := range finds {
		for action, more := "", true; more; {
			more = false
			err := c.Query(find, func(row []driver.Value) error {
				if action, more = row[0].(string); more {
					actions[action] = true
				}
				return nil
			}, laneNumber(q.number, priority), action)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// firstReserved returns the lowest id of the reserved tasks of each queue that has any, by the number of the queue.
func firstReserved(c *file.Conn) (map[int64]string, error) {
	ids := map[int64]string{}
	err := c.Query(sqlFirstReserved, func(row []driver.Value) error {
		id, _ := row[1].(string)
		ids[pack.Int(row[0])] = id
		return nil
	})
	return ids, err
}

// oldestOf returns the time since when the queued task with the lowest id has been due. first is the lowest id of the
// queue's reserved tasks; "" if it has none.
func oldestOf(c *file.Conn, queue int64, first string) (since time.Time, err error) {
	each := func(row []driver.Value) error {
		id, _ := row[0].(string)
		if id != "" && (first == "" || id < first) {
			first = id
		}
		return nil
	}
	for priority := range lanesPerQueue {
		for _, find := range []string{sqlFirstQueued, sqlFirstSuspect} {
			if err := c.Query(find, each, laneNumber(queue, task.Priority(priority))); err != nil {
				return since, err
			}
		}
	}
	err = c.Query(sqlTaskByID, func(row []driver.Value) error {
		t, _, err := pack.Row(row, 1)
		if since = t.RunAt; since.IsZero() {
			since = t.CreatedAt
		}
		return err
	}, first)
	return since, err
}

// Pause implements store.Queues.
func (s *Store) Pause(ctx context.Context, name string, paused bool) (version int64, err error) {
	err = s.write(ctx, func(w *writer) error {
		q := w.queues.byName[name]
		if q == nil || q.gone() {
			return store.NoQueue(name)
		}
		if q.Paused != paused {
			if err := w.note(store.AuditOfPause(ctx, name, paused)); err != nil {
				return err
			}
		}
		q.Paused = paused
		w.queues.changed[q] = true
		return w.Query(sqlRaisePauses, func(row []driver.Value) error { version = pack.Int(row[0]); return nil })
	})
	if err != nil {
		return 0, err
	}
	return version, nil
}

// Paused implements store.Queues.
func (s *Store) Paused(ctx context.Context) (store.Paused, error) {
	var paused store.Paused
	err := s.file.Read(ctx, func(c *file.Conn) error {
		paused = store.Paused{}
		return c.Query(sqlListPaused, func(row []driver.Value) error {
			paused.Version = pack.Int(row[0])
			if name, there := row[1].(string); there {
				paused.Queues = append(paused.Queues, name)
			}
			return nil
		})
	})
	return paused, err
}
