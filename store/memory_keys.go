package store

import (
	"context"
	"slices"
	"time"

	"github.com/posta-tasks/posta/task"
)

// AddKey implements Keys.
func (m *Memory) AddKey(ctx context.Context, key task.AccessKey) (task.AccessKey, error) {
	if err := m.lock(ctx); err != nil {
		return task.AccessKey{}, err
	}
	defer m.mu.Unlock()
	_, exists := m.access[key.ID]
	if err := CheckNewKey(key.ID, exists, len(m.access)); err != nil {
		return task.AccessKey{}, err
	}
	if key.Created.IsZero() {
		key.Created = m.now
	}
	for _, at := range []*time.Time{&key.Created, &key.Used, &key.Expires, &key.Revoked} {
		if !at.IsZero() {
			*at = stored(*at)
		}
	}
	m.access[key.ID] = copyOfKey(key)
	m.note(AuditOfKey(ctx, task.AuditCreateKey, &key))
	return key, nil
}

func copyOfKey(key task.AccessKey) task.AccessKey {
	key.Grants = slices.Clone(key.Grants)
	return key
}

// AccessKeys implements Keys.
func (m *Memory) AccessKeys(ctx context.Context) ([]task.AccessKey, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var keys []task.AccessKey
	for _, key := range m.access {
		keys = append(keys, copyOfKey(key))
	}
	SortKeys(keys)
	return keys, nil
}

// RevokeKey implements Keys.
func (m *Memory) RevokeKey(ctx context.Context, id string) (task.AccessKey, error) {
	if err := m.lock(ctx); err != nil {
		return task.AccessKey{}, err
	}
	defer m.mu.Unlock()
	key, ok := m.access[id]
	if !ok {
		return task.AccessKey{}, NoKey(id)
	}
	if key.Revoked.IsZero() {
		key.Revoked = stored(m.now)
		m.access[id] = key
		m.note(AuditOfKey(ctx, task.AuditRevokeKey, &key))
	}
	return copyOfKey(key), nil
}

// UseKeys implements Keys.
func (m *Memory) UseKeys(ctx context.Context, ids []string) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	for _, id := range ids {
		if key, ok := m.access[id]; ok {
			key.Used = stored(m.now)
			m.access[id] = key
		}
	}
	return nil
}
