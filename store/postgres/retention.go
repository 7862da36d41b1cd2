package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// Finished tasks pass their keep in the order of the times at which it ends. One row (table sweep) says how far
// the retention has come, so no write is needed for each task.

// discard moves the retention past the finished tasks whose keep has ended.
func (t *maintenance) discard(ctx context.Context) error {
	now, err := t.settled(ctx)
	if err != nil {
		return err
	}
	var list []changed
	err = t.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			// One transaction at a time; the next one sees how far this one has come.
			_, err := tx.Exec(ctx, "SELECT FROM sweep FOR UPDATE")
			if err == nil {
				list, err = scanner{entries: 1}.all(ctx, tx.Conn(), sqlExpireFinished, t.limit, now)
			}
			if err == nil && len(list) < t.limit {
				_, err = tx.Exec(ctx, sqlRaiseRetention, now)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	t.reached = t.reached || len(list) >= t.limit
	t.Deleted = tasksOf(list, all)
	return t.tidy(ctx, list)
}

// settled returns a time before which no task can still become finished.
func (t *maintenance) settled(ctx context.Context) (now int64, err error) {
	err = t.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, sqlLockCounts); err != nil {
				return err
			}
			return tx.QueryRow(ctx, "SELECT clock_ms()").Scan(&now)
		})
	})
	return now, err
}

// tidy drops queues that have no task, and partitions past their keep.
func (t *maintenance) tidy(ctx context.Context, swept []changed) error {
	names := map[string]bool{}
	for i := range swept {
		names[swept[i].Queue] = true
	}
	if err := t.forget(ctx, names); err != nil {
		return err
	}
	over, err := t.expiredPartitions(ctx)
	for _, bucket := range over {
		if err == nil {
			err = t.drop(ctx, bucket)
		}
	}
	return err
}

// forget drops the given queues that have no task.
func (s *Store) forget(ctx context.Context, names map[string]bool) error {
	return s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var list []string
		for name := range names {
			list = append(list, name)
		}
		var empty []int32
		err := c.QueryRow(ctx, `SELECT coalesce(array_agg(number), '{}') FROM (SELECT q.number FROM queues q
			JOIN counts c ON c.queue = q.number WHERE q.name = ANY($1) AND NOT q.paused
			GROUP BY q.number HAVING sum(c.kept) <= 0) AS e`, list).Scan(&empty)
		if err != nil || len(empty) == 0 {
			return err
		}
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sqlLockCounts)
			if err == nil {
				_, err = tx.Exec(ctx, sqlForgetQueues, empty)
			}
			return err
		})
	})
}

// expiredPartitions lists the partitions in which all tasks are past their keep.
func (s *Store) expiredPartitions(ctx context.Context) (over []int64, err error) {
	err = s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		over = nil
		rows, err := c.Query(ctx, sqlExpiredPartitions)
		if err != nil {
			return err
		}
		over, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	return over, err
}

// drop drops a partition. It waits only briefly for readers of finished tasks, since all other statements would
// wait behind it. If it fails, the next call tries again.
func (s *Store) drop(ctx context.Context, bucket int64) error {
	err := s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '100ms'")
			if err == nil {
				_, err = tx.Exec(ctx, "DROP TABLE IF EXISTS "+partition(bucket))
			}
			return err
		})
	})
	if task.CodeOf(err) == task.Unavailable {
		return nil
	}
	return err
}
