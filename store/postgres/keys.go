package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// The keys of clients.
const (
	sqlListKeys  = "SELECT about, used, revoked FROM access_keys"
	sqlFindKey   = "SELECT about, used, revoked FROM access_keys WHERE id = $1"
	sqlCountKeys = "SELECT count(*), count(*) FILTER (WHERE id = $1) > 0, clock_ms() FROM access_keys"
	sqlAddKey    = "INSERT INTO access_keys (id, about, used, revoked) VALUES ($1, $2, $3, $4)"
	sqlRevokeKey = "UPDATE access_keys SET revoked = clock_ms() WHERE id = $1 AND revoked = 0 RETURNING about, used, revoked"
	sqlUseKeys   = "UPDATE access_keys SET used = clock_ms() WHERE id IN (SELECT id FROM access_keys WHERE id = ANY($1) ORDER BY id FOR UPDATE)"
)

// AddKey implements store.Keys.
func (s *Store) AddKey(ctx context.Context, key task.AccessKey) (task.AccessKey, error) {
	err := s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "LOCK TABLE access_keys IN SHARE ROW EXCLUSIVE MODE"); err != nil {
				return err
			}
			var n int
			var exists bool
			var now int64
			err := tx.QueryRow(ctx, sqlCountKeys, key.ID).Scan(&n, &exists, &now)
			if err == nil {
				err = store.CheckNewKey(key.ID, exists, n)
			}
			if err != nil {
				return err
			}
			if key.Created.IsZero() {
				key.Created = pack.Time(now)
			}
			about, err := pack.Key(&key)
			if err == nil {
				_, err = tx.Exec(ctx, sqlAddKey, key.ID, about, pack.Millis(key.Used), pack.Millis(key.Revoked))
			}
			if err == nil {
				err = s.note(ctx, tx.Conn(), store.AuditOfKey(ctx, task.AuditCreateKey, &key))
			}
			return err
		})
	})
	return key, err
}

// AccessKeys implements store.Keys.
func (s *Store) AccessKeys(ctx context.Context) ([]task.AccessKey, error) {
	var keys []task.AccessKey
	err := s.server.Read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		keys = nil
		rows, err := c.Query(ctx, sqlListKeys)
		if err != nil {
			return err
		}
		var about string
		var used, revoked int64
		_, err = pgx.ForEachRow(rows, []any{&about, &used, &revoked}, func() error {
			key, err := pack.UnpackKey(about, used, revoked)
			keys = append(keys, key)
			return err
		})
		return err
	})
	store.SortKeys(keys)
	return keys, err
}

// RevokeKey implements store.Keys.
func (s *Store) RevokeKey(ctx context.Context, id string) (task.AccessKey, error) {
	var key task.AccessKey
	err := s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			var about string
			var used, revoked int64
			err := tx.QueryRow(ctx, sqlRevokeKey, id).Scan(&about, &used, &revoked)
			made := err == nil
			if errors.Is(err, pgx.ErrNoRows) { // it may be revoked already
				err = tx.QueryRow(ctx, sqlFindKey, id).Scan(&about, &used, &revoked)
			}
			if errors.Is(err, pgx.ErrNoRows) {
				return store.NoKey(id)
			}
			if err == nil {
				key, err = pack.UnpackKey(about, used, revoked)
			}
			if err == nil && made {
				err = s.note(ctx, tx.Conn(), store.AuditOfKey(ctx, task.AuditRevokeKey, &key))
			}
			return err
		})
	})
	return key, err
}

// UseKeys implements store.Keys.
func (s *Store) UseKeys(ctx context.Context, ids []string) error {
	return s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, sqlUseKeys, ids)
		return err
	})
}
