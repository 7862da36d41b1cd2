package postgres

import (
	"cmp"
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// Import implements store.Imports.
func (s *Store) Import(ctx context.Context, tasks []task.Task) ([]bool, error) {
	stored := make([]bool, len(tasks))
	args, place := importArgs(tasks), map[string]int{}
	for i := range tasks {
		place[tasks[i].ID] = i
	}
	err := s.finish(ctx, func(ctx context.Context, c *pgx.Conn) error {
		clear(stored)
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, sqlImportNames, args[1]); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, sqlImportTasks, args...)
			if err != nil {
				return err
			}
			var id string
			_, err = pgx.ForEachRow(rows, []any{&id}, func() error { stored[place[id]] = true; return nil })
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// importArgs returns the parameters of sqlImportTasks.
func importArgs(tasks []task.Task) []any {
	every := allOf(len(tasks))
	text := func(value func(t *task.Task) string) any {
		return collect(tasks, every, func(t *task.Task) *string {
			if v := value(t); v != "" {
				return &v
			}
			return nil
		})
	}
	number := func(value func(t *task.Task) int64) any { return collect(tasks, every, value) }
	bytes := func(value func(t *task.Task) []byte) any { return collect(tasks, every, value) }
	flag := func(value func(t *task.Task) bool) any { return collect(tasks, every, value) }
	return []any{
		collect(tasks, every, func(t *task.Task) string { return t.ID }),
		collect(tasks, every, func(t *task.Task) string { return t.Queue }),
		number(pack.RowState),
		flag(func(t *task.Task) bool { return t.Suspect }),
		flag(func(t *task.Task) bool { return t.Cancelling }),
		number(func(t *task.Task) int64 { return int64(t.Priority) }),
		number(func(t *task.Task) int64 { return int64(t.Fence) }),
		number(func(t *task.Task) int64 { return int64(t.Failures) }),
		number(func(t *task.Task) int64 { return int64(t.Crashes) }),
		number(func(t *task.Task) int64 { return int64(t.MaxAttempts) }),
		number(func(t *task.Task) int64 { return t.Keep.Milliseconds() }),
		number(func(t *task.Task) int64 { return pack.Millis(t.CreatedAt) }),
		number(func(t *task.Task) int64 { return pack.Millis(t.History[len(t.History)-1].At) }),
		number(func(t *task.Task) int64 { return pack.Millis(t.RunAt) }),
		number(func(t *task.Task) int64 { return pack.Millis(t.Expires) }),
		number(pack.Due),
		number(func(t *task.Task) int64 { return pack.Millis(t.Lease) }),
		text(func(t *task.Task) string { return t.Action }),
		text(func(t *task.Task) string { return t.Key }),
		text(func(t *task.Task) string { return cmp.Or(t.Reserved, t.Node) }),
		bytes(pack.Spec), bytes(pack.ProgressOf), bytes(pack.OutcomeOf),
		bytes(pack.History),
		bytes(func(t *task.Task) []byte { return t.Payload.Inline }),
		number(pack.Reserved), number(func(t *task.Task) int64 { return int64(t.Fence - t.Attempt) }),
		number(func(t *task.Task) int64 { return t.KeepFailed.Milliseconds() }),
		text(func(t *task.Task) string { return t.Owner }),
	}
}

// ImportQueues implements store.Imports.
func (s *Store) ImportQueues(ctx context.Context, queues []store.Queue) error {
	every := allOf(len(queues))
	args := []any{
		collect(queues, every, func(q *store.Queue) string { return q.Name }),
		collect(queues, every, func(q *store.Queue) bool { return q.Paused }),
		collect(queues, every, func(q *store.Queue) int64 { return q.Accepted }),
		collect(queues, every, func(q *store.Queue) int64 { return q.Finished }),
	}
	return s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sqlLockCounts)
			for _, text := range []string{sqlImportPaused, sqlImportTotals} {
				if err == nil {
					_, err = tx.Exec(ctx, text, args...)
				}
			}
			return err
		})
	})
}
