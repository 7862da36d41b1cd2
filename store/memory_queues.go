package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/task"
)

// queue is a queue with its counts, and its queued tasks sorted by priority and id.
type queue struct {
	Queue
	kept     int
	lanes    [3][]*task.Task
	reserved map[string]*task.Task
}

// open returns a queue and creates it if it does not exist.
func (m *Memory) open(name string) (*queue, *task.Error) {
	q := m.queues[name]
	if q != nil {
		return q, nil
	}
	if len(m.queues) >= m.limits.Queues {
		return nil, m.limits.RefuseQueue(name)
	}
	return m.make(name), nil
}

func (m *Memory) make(name string) *queue {
	q := &queue{Queue: Queue{Name: name}, reserved: map[string]*task.Task{}}
	m.queues[name] = q
	return q
}

// full returns a refusal if the queue has reached its bound, or nil.
func (q *queue) full(limits Limits) *task.Error {
	if q.Scheduled+q.Queued+q.Running < int64(limits.Bound(q.Name)) {
		return nil
	}
	return limits.RefuseTask(q.Name)
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

// add counts a task and, if the task is queued, inserts it in its lane.
func (q *queue) add(t *task.Task) {
	q.kept++
	*q.count(t.State)++
	if t.Reserved != "" {
		q.reserved[t.ID] = t
	} else if t.State == task.Queued {
		i, _ := q.place(t)
		q.lanes[t.Priority] = slices.Insert(q.lanes[t.Priority], i, t)
	}
}

// remove undoes add. The state of the task must still be the one with which it was added.
func (q *queue) remove(t *task.Task) {
	q.kept--
	*q.count(t.State)--
	if t.Reserved != "" {
		delete(q.reserved, t.ID)
	} else if t.State == task.Queued {
		i, _ := q.place(t)
		q.lanes[t.Priority] = slices.Delete(q.lanes[t.Priority], i, i+1)
	}
}

func (q *queue) place(t *task.Task) (int, bool) {
	return slices.BinarySearchFunc(q.lanes[t.Priority], t.ID,
		func(other *task.Task, id string) int { return strings.Compare(other.ID, id) })
}

// oldest returns since when the queued task with the lowest id has been due.
func (q *queue) oldest() time.Time {
	var first *task.Task
	for _, lane := range q.lanes {
		if len(lane) > 0 && (first == nil || lane[0].ID < first.ID) {
			first = lane[0]
		}
	}
	for _, t := range q.reserved {
		if first == nil || t.ID < first.ID {
			first = t
		}
	}
	switch {
	case first == nil:
		return time.Time{}
	case first.RunAt.IsZero():
		return first.CreatedAt
	default:
		return first.RunAt
	}
}

// dropIfEmpty deletes a queue that has no task and is not paused.
func (m *Memory) dropIfEmpty(q *queue) {
	if q.kept == 0 && !q.Paused {
		delete(m.queues, q.Name)
	}
}

// Queues implements Queues.
func (m *Memory) Queues(ctx context.Context) ([]Queue, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var list []Queue
	for _, name := range slices.Sorted(maps.Keys(m.queues)) {
		q := m.queues[name]
		item := q.Queue
		if item.Oldest = q.oldest(); !item.Oldest.IsZero() {
			item.OldestAge = max(m.now.Sub(item.Oldest), 0)
		}
		list = append(list, item)
	}
	return list, nil
}

// Waiting implements Queues.
func (m *Memory) Waiting(ctx context.Context) ([]Waiting, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	found := map[Waiting]bool{}
	for _, t := range m.tasks {
		if t.State == task.Scheduled || t.State == task.Queued {
			found[Waiting{t.Queue, t.Action}] = true
		}
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b Waiting) int {
		return cmp.Or(strings.Compare(a.Queue, b.Queue), strings.Compare(a.Action, b.Action))
	}), nil
}

// Pause implements Queues.
func (m *Memory) Pause(ctx context.Context, name string, paused bool) (int64, error) {
	if err := m.lock(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	q := m.queues[name]
	if q == nil {
		return 0, NoQueue(name)
	}
	m.pauses++
	if q.Paused != paused {
		m.note(AuditOfPause(ctx, name, paused))
	}
	q.Paused = paused
	m.dropIfEmpty(q)
	return m.pauses, nil
}

// Paused implements Queues.
func (m *Memory) Paused(ctx context.Context) (Paused, error) {
	if err := m.lock(ctx); err != nil {
		return Paused{}, err
	}
	defer m.mu.Unlock()
	paused := Paused{Version: m.pauses}
	for _, name := range slices.Sorted(maps.Keys(m.queues)) {
		if m.queues[name].Paused {
			paused.Queues = append(paused.Queues, name)
		}
	}
	return paused, nil
}

// Beat implements Queues. It also deletes nodes that have sent no heartbeat for task.LeaseTime.
func (m *Memory) Beat(ctx context.Context, n Node) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	now := m.now
	maps.DeleteFunc(m.nodes, func(_ string, n nodeRow) bool { return !n.alive(now) })
	n.Actions, n.Queues, n.Seen = slices.Clone(n.Actions), slices.Clone(n.Queues), now
	since := now
	if before, there := m.nodes[n.Name]; there && before.Started.Equal(n.Started) {
		since = before.since
	}
	m.nodes[n.Name] = nodeRow{n, since}
	return nil
}

// Nodes implements Queues.
func (m *Memory) Nodes(ctx context.Context) ([]Node, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var list []Node
	now := m.now
	for _, name := range slices.Sorted(maps.Keys(m.nodes)) {
		if n := m.nodes[name]; n.alive(now) {
			n.Actions, n.Queues = slices.Clone(n.Actions), slices.Clone(n.Queues)
			list = append(list, n.Node)
		}
	}
	return list, nil
}

// nodeRow is the row of a node.
type nodeRow struct {
	Node
	since time.Time // time of its first heartbeat with this Started
}

// holderIsAlive reports whether the process that was granted the lease of a task is alive.
func (m *Memory) holderIsAlive(t *task.Task) bool {
	n, there := m.nodes[holder(t)]
	return there && m.now.Before(n.Seen.Add(task.LeaseLively)) && !n.since.After(t.Lease.Add(-task.LeaseTime))
}

func (n nodeRow) alive(now time.Time) bool { return now.Before(n.Seen.Add(task.LeaseTime)) }
