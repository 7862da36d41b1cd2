package store

import (
	"context"
	"maps"
	"slices"

	"github.com/posta-tasks/posta/task"
)

// SaveOperation implements Operations.
func (m *Memory) SaveOperation(ctx context.Context, op task.Operation) (bool, error) {
	if err := m.lock(ctx); err != nil {
		return false, err
	}
	defer m.mu.Unlock()
	op.IDs, op.Seen = slices.Clone(op.IDs), stored(m.now)
	op.Stopping = m.operations[op.ID].Stopping
	m.operations[op.ID] = op
	for _, lost := range []bool{false, true} {
		for _, id := range slices.Sorted(maps.Keys(m.operations)) {
			old := m.operations[id]
			old.Silent = m.now.Sub(old.Seen)
			if len(m.operations) > task.MaxOperations && (!old.Ended.IsZero() || lost && old.IsLost()) {
				delete(m.operations, id)
			}
		}
	}
	return op.Stopping, nil
}

// Operations implements Operations.
func (m *Memory) Operations(ctx context.Context) ([]task.Operation, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var list []task.Operation
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(m.operations))) {
		op := m.operations[id]
		op.IDs, op.Silent = slices.Clone(op.IDs), max(0, m.now.Sub(op.Seen))
		list = append(list, op)
	}
	return list, nil
}

// StopOperation implements Operations.
func (m *Memory) StopOperation(ctx context.Context, id string) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	op, ok := m.operations[id]
	if !ok {
		return NoOperation(id)
	}
	op.Stopping = true
	m.operations[id] = op
	return nil
}
