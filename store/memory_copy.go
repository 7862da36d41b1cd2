package store

import (
	"context"

	"github.com/posta-tasks/posta/task"
)

// Import implements Imports.
func (m *Memory) Import(ctx context.Context, tasks []task.Task) ([]bool, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	for i := range tasks {
		if err := m.keyIsFree(&tasks[i]); err != nil {
			return nil, err
		}
	}
	stored := make([]bool, len(tasks))
	for i := range tasks {
		if m.tasks[tasks[i].ID] != nil {
			continue
		}
		stored[i] = true
		t := fullCopy(&tasks[i])
		m.tasks[t.ID] = &t
		if t.Key != "" && t.State != task.Cancelled {
			m.keys[key{t.Queue, t.Key}] = &t
		}
		q := m.queues[t.Queue]
		if q == nil {
			q = m.make(t.Queue)
		}
		q.Accepted++
		q.add(&t)
	}
	return stored, nil
}

// keyIsFree returns an error if the task's key belongs to another task.
func (m *Memory) keyIsFree(t *task.Task) error {
	if t.Key == "" || t.State == task.Cancelled {
		return nil
	}
	if other := m.keys[key{t.Queue, t.Key}]; other != nil && other.ID != t.ID {
		return task.Refuse(task.Internal, "task %s has the key of task %s", t.ID, other.ID)
	}
	return nil
}

// ImportQueues implements Imports.
func (m *Memory) ImportQueues(ctx context.Context, queues []Queue) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	for _, asked := range queues {
		q := m.queues[asked.Name]
		if q == nil && asked.Paused {
			q = m.make(asked.Name)
		}
		if q != nil {
			q.Paused, q.Accepted, q.Finished = asked.Paused, asked.Accepted, asked.Finished
			m.dropIfEmpty(q)
		}
	}
	return nil
}
