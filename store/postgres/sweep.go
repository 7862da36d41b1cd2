package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// Finished tasks go in the order of the times at which they do. How far that has come is
// one row, so that a task goes without a write of its own.

// discard lets go of finished tasks past their keep.
func (t *tender) discard(ctx context.Context) error {
	now, err := t.settled(ctx)
	if err != nil {
		return err
	}
	var list []changed
	err = t.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			// One at a time; what comes after sees how far the one before has come.
			_, err := tx.Exec(ctx, "SELECT FROM sweep FOR UPDATE")
			if err == nil {
				list, err = scanner{entries: 1}.all(ctx, tx.Conn(), sqlSweepTasks, t.limit, now)
			}
			if err == nil && len(list) < t.limit {
				_, err = tx.Exec(ctx, sqlSweptUntil, now)
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

// settled gives a time before which no task will be finished any more.
func (t *tender) settled(ctx context.Context) (now int64, err error) {
	err = t.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, sqlKeepOut); err != nil {
				return err
			}
			return tx.QueryRow(ctx, "SELECT clock_ms()").Scan(&now)
		})
	})
	return now, err
}

// tidy drops queues of which nothing is left, and partitions that are over.
func (t *tender) tidy(ctx context.Context, swept []changed) error {
	names := map[string]bool{}
	for i := range swept {
		names[swept[i].Queue] = true
	}
	if err := t.forget(ctx, names); err != nil {
		return err
	}
	over, err := t.overBuckets(ctx)
	for _, bucket := range over {
		if err == nil {
			err = t.drop(ctx, bucket)
		}
	}
	return err
}

// forget drops those of the queues that have nothing left.
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
			_, err := tx.Exec(ctx, sqlKeepOut)
			if err == nil {
				_, err = tx.Exec(ctx, sqlForgetQueues, empty)
			}
			return err
		})
	})
}

// overBuckets lists the partitions whose last task has gone.
func (s *Store) overBuckets(ctx context.Context) (over []int64, err error) {
	err = s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		over = nil
		rows, err := c.Query(ctx, sqlOverBuckets)
		if err != nil {
			return err
		}
		over, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	return over, err
}

// drop drops a partition. It does not wait long for those who read finished tasks, since everybody
// else would wait behind it: there is a next time.
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
