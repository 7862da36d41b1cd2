package postgres

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// Changes of many tasks.
const (
	sqlSaveOperation = `INSERT INTO operations AS o (id, about, seen) VALUES ($1, $2, clock_ms())
		ON CONFLICT (id) DO UPDATE SET about = excluded.about, seen = excluded.seen RETURNING stopping`
	sqlForgetOperations = `DELETE FROM operations WHERE id IN (SELECT id FROM operations
		WHERE about::json->>'Ended' IS NOT NULL OR seen < clock_ms() - $2
		ORDER BY about::json->>'Ended' IS NULL, id LIMIT greatest(0, (SELECT count(*) FROM operations) - $1))`
	sqlListOperations = "SELECT about, seen, stopping, clock_ms() FROM operations ORDER BY id DESC"
	sqlStopOperation  = "UPDATE operations SET stopping = true WHERE id = $1"
)

// SaveOperation implements store.Operations.
func (s *Store) SaveOperation(ctx context.Context, op task.Operation) (stopping bool, err error) {
	about, err := json.Marshal(op)
	if err != nil {
		return false, task.Refuse(task.Internal, "operation %s: %v", op.ID, err)
	}
	err = s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		err := c.QueryRow(ctx, sqlSaveOperation, op.ID, string(about)).Scan(&stopping)
		if err == nil {
			_, err = c.Exec(ctx, sqlForgetOperations, task.MaxOperations, task.OperationSilence.Milliseconds())
		}
		return err
	})
	return stopping, err
}

// Operations implements store.Operations.
func (s *Store) Operations(ctx context.Context) ([]task.Operation, error) {
	var list []task.Operation
	err := s.server.Read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		list = nil
		rows, err := c.Query(ctx, sqlListOperations)
		if err != nil {
			return err
		}
		var about string
		var seen, now int64
		var stopping bool
		_, err = pgx.ForEachRow(rows, []any{&about, &seen, &stopping, &now}, func() error {
			var op task.Operation
			err := json.Unmarshal([]byte(about), &op)
			op.Seen, op.Stopping = pack.Time(seen), stopping
			op.Silent = max(0, pack.Time(now).Sub(op.Seen))
			list = append(list, op)
			return err
		})
		return err
	})
	return list, err
}

// StopOperation implements store.Operations.
func (s *Store) StopOperation(ctx context.Context, id string) error {
	return s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		changed, err := c.Exec(ctx, sqlStopOperation, id)
		if err == nil && changed.RowsAffected() == 0 {
			err = store.NoOperation(id)
		}
		return err
	})
}
