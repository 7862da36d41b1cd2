package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/file"
	"github.com/posta-tasks/posta/task"
)

// Changes of many tasks.
const (
	sqlSaveOperation = `INSERT INTO operations (id, about, seen) VALUES (?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET about = excluded.about, seen = excluded.seen RETURNING stopping`
	sqlForgetOperations = `DELETE FROM operations WHERE id IN (SELECT id FROM operations
		WHERE json_extract(about, '$.Ended') IS NOT NULL OR seen < ?
		ORDER BY json_extract(about, '$.Ended') IS NULL, id LIMIT max(0, (SELECT count(*) FROM operations) - ?))`
	sqlListOperations = "SELECT about, seen, stopping FROM operations ORDER BY id DESC"
	sqlStopOperation  = "UPDATE operations SET stopping = 1 WHERE id = ?"
)

// SaveOperation implements store.Operations.
func (s *Store) SaveOperation(ctx context.Context, op task.Operation) (stopping bool, err error) {
	about, err := json.Marshal(op)
	if err != nil {
		return false, task.Refuse(task.Internal, "operation %s: %v", op.ID, err)
	}
	err = s.write(ctx, func(w *writer) error {
		err := w.Query(sqlSaveOperation, func(row []driver.Value) error {
			stopping = pack.Int(row[0]) != 0
			return nil
		}, op.ID, string(about), w.now)
		if err == nil {
			_, err = w.Exec(sqlForgetOperations, w.now-task.OperationSilence.Milliseconds(), int64(task.MaxOperations))
		}
		return err
	})
	return stopping, err
}

// Operations implements store.Operations.
func (s *Store) Operations(ctx context.Context) ([]task.Operation, error) {
	var list []task.Operation
	err := s.file.Read(ctx, func(c *file.Conn) error {
		list = nil
		now := s.rowTime()
		return c.Query(sqlListOperations, func(row []driver.Value) error {
			var op task.Operation
			about, _ := row[0].(string)
			err := json.Unmarshal([]byte(about), &op)
			op.Seen, op.Stopping = pack.Time(pack.Int(row[1])), pack.Int(row[2]) != 0
			op.Silent = max(0, now.Sub(op.Seen))
			list = append(list, op)
			return err
		})
	})
	return list, err
}

// StopOperation implements store.Operations.
func (s *Store) StopOperation(ctx context.Context, id string) error {
	return s.write(ctx, func(w *writer) error {
		n, err := w.Exec(sqlStopOperation, id)
		if err == nil && n == 0 {
			err = store.NoOperation(id)
		}
		return err
	})
}
