package sqlite

import (
	"context"
	"database/sql/driver"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/file"
	"github.com/posta-tasks/posta/task"
)

// The keys of clients.
const (
	sqlListKeys  = "SELECT about, used, revoked FROM access_keys"
	sqlFindKey   = "SELECT about, used, revoked FROM access_keys WHERE id = ?"
	sqlAddKey    = "INSERT INTO access_keys (id, about, used, revoked) VALUES (?, ?, ?, ?)"
	sqlRevokeKey = "UPDATE access_keys SET revoked = ? WHERE id = ? AND revoked = 0 RETURNING about, used, revoked"
	sqlUseKey    = "UPDATE access_keys SET used = ? WHERE id = ?"
)

// AddKey implements store.Keys.
func (s *Store) AddKey(ctx context.Context, key task.AccessKey) (task.AccessKey, error) {
	err := s.write(ctx, func(w *writer) error {
		n, exists := 0, false
		err := w.Query("SELECT id FROM access_keys", func(row []driver.Value) error {
			n, exists = n+1, exists || row[0] == key.ID
			return nil
		})
		if err == nil {
			err = store.CheckNewKey(key.ID, exists, n)
		}
		if err != nil {
			return err
		}
		if key.Created.IsZero() {
			key.Created = pack.Time(w.now)
		}
		about, err := pack.Key(&key)
		if err == nil {
			_, err = w.Exec(sqlAddKey, key.ID, about, pack.Millis(key.Used), pack.Millis(key.Revoked))
		}
		if err == nil {
			err = w.note(store.AuditOfKey(ctx, task.AuditCreateKey, &key))
		}
		return err
	})
	return key, err
}

// AccessKeys implements store.Keys.
func (s *Store) AccessKeys(ctx context.Context) ([]task.AccessKey, error) {
	var keys []task.AccessKey
	err := s.file.Read(ctx, func(c *file.Conn) error {
		keys = nil
		return c.Query(sqlListKeys, func(row []driver.Value) error {
			key, err := keyOfRow(row)
			keys = append(keys, key)
			return err
		})
	})
	store.SortKeys(keys)
	return keys, err
}

func keyOfRow(row []driver.Value) (task.AccessKey, error) {
	about, _ := row[0].(string)
	return pack.UnpackKey(about, pack.Int(row[1]), pack.Int(row[2]))
}

// RevokeKey implements store.Keys.
func (s *Store) RevokeKey(ctx context.Context, id string) (task.AccessKey, error) {
	var key task.AccessKey
	err := s.write(ctx, func(w *writer) error {
		found := false
		read := func(row []driver.Value) (err error) {
			found = true
			key, err = keyOfRow(row)
			return err
		}
		err := w.Query(sqlRevokeKey, read, w.now, id)
		if err == nil && found {
			return w.note(store.AuditOfKey(ctx, task.AuditRevokeKey, &key))
		}
		if err == nil {
			err = w.Query(sqlFindKey, read, id) // it may be revoked already
		}
		if err == nil && !found {
			err = store.NoKey(id)
		}
		return err
	})
	return key, err
}

// UseKeys implements store.Keys.
func (s *Store) UseKeys(ctx context.Context, ids []string) error {
	return s.write(ctx, func(w *writer) error {
		for _, id := range ids {
			if _, err := w.Exec(sqlUseKey, w.now, id); err != nil {
				return err
			}
		}
		return nil
	})
}
