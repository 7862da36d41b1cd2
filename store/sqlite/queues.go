package sqlite

import (
	"database/sql/driver"
	"maps"
	"slices"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/file"
	"github.com/posta-tasks/posta/task"
)

// queue is the row of a queue. The writer keeps the counts in memory, and writes them in the transaction that
// changes them.
type queue struct {
	store.Queue
	number int64
	kept   int64 // tasks in any state
}

// queueSet is the queues as the writer sees them, including the changes of the open transaction.
type queueSet struct {
	limits  store.Limits
	byName  map[string]*queue
	byNum   map[int64]*queue
	changed map[*queue]bool // since the transaction began
	saved   []*queue        // those that the transaction has written; for queueView.update
	last    int64           // the highest number so far
}

// load reads the queues as the last commit left them.
func (s *queueSet) load(c *file.Conn) error {
	s.byName, s.byNum, s.changed = map[string]*queue{}, map[int64]*queue{}, map[*queue]bool{}
	return c.Query(sqlLoadQueues, func(row []driver.Value) error {
		q := &queue{number: pack.Int(row[0]), kept: pack.Int(row[7])}
		q.Name, _ = row[1].(string)
		q.Paused = pack.Int(row[2]) != 0
		q.Scheduled, q.Queued, q.Running, q.Failed = pack.Int(row[3]), pack.Int(row[4]), pack.Int(row[5]), pack.Int(row[6])
		q.Accepted, q.Finished = pack.Int(row[8]), pack.Int(row[9])
		s.add(q)
		return nil
	})
}

func (s *queueSet) add(q *queue) {
	s.byName[q.Name], s.byNum[q.number] = q, q
	s.last = max(s.last, q.number)
}

// open returns a queue and creates it if it does not exist.
func (s *queueSet) open(name string) (*queue, *task.Error) {
	if q := s.byName[name]; q != nil {
		return q, nil
	}
	if len(s.byName) >= s.limits.Queues {
		return nil, s.limits.RefuseQueue(name)
	}
	return s.make(name), nil
}

func (s *queueSet) make(name string) *queue {
	q := &queue{Queue: store.Queue{Name: name}, number: s.last + 1}
	s.add(q)
	s.changed[q] = true
	return q
}

// full returns a refusal if the queue has reached its bound, or nil.
func (s *queueSet) full(q *queue) *task.Error {
	if q.Scheduled+q.Queued+q.Running < int64(s.limits.Bound(q.Name)) {
		return nil
	}
	return s.limits.RefuseTask(q.Name)
}

// move counts a change of state. from is "" for a new task, and to is "" for a deleted one.
func (s *queueSet) move(q *queue, from, to task.State) {
	s.changed[q] = true
	*q.count(from)--
	*q.count(to)++
	switch {
	case from == "":
		q.kept++
		q.Accepted++
	case to == "":
		q.kept--
	case to.Final():
		q.Finished++
	}
}

// count returns the counter of a state. Those of done and cancelled are not kept.
func (q *queue) count(s task.State) *int64 {
	switch s {
	case task.Scheduled:
		return &q.Scheduled
	case task.Queued:
		return &q.Queued
	case task.Running:
		return &q.Running
	case task.Failed:
		return &q.Failed
	default:
		return new(int64)
	}
}

// gone reports whether the queue can be dropped: it has no task and is not paused.
func (q *queue) gone() bool { return q.kept == 0 && !q.Paused }

// save writes the changed queues and drops those that are gone.
func (s *queueSet) save(c *file.Conn) error {
	s.saved = slices.Collect(maps.Keys(s.changed))
	clear(s.changed)
	for _, q := range s.saved {
		if err := s.saveOne(c, q); err != nil {
			return err
		}
	}
	return nil
}

func (s *queueSet) saveOne(c *file.Conn, q *queue) error {
	if q.gone() {
		delete(s.byName, q.Name)
		delete(s.byNum, q.number)
		_, err := c.Exec(sqlDropQueue, q.number)
		return err
	}
	_, err := c.Exec(sqlSaveQueue, q.number, q.Name, q.Paused, q.Scheduled, q.Queued, q.Running, q.Failed,
		q.kept, q.Accepted, q.Finished)
	return err
}
