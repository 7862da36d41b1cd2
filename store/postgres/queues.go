package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// openQueues creates the queues that do not exist, in their order and up to the limit, and reports which exist
// afterwards.
func (s *Store) openQueues(ctx context.Context, names []string) (there map[string]bool, err error) {
	err = s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			there, err = s.openLocked(ctx, tx, names)
			return err
		})
	})
	return there, err
}

// openLocked is openQueues inside a transaction.
func (s *Store) openLocked(ctx context.Context, tx pgx.Tx, names []string) (map[string]bool, error) {
	if _, err := tx.Exec(ctx, "LOCK TABLE queues IN SHARE ROW EXCLUSIVE MODE"); err != nil {
		return nil, err
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	_, err := tx.Exec(ctx, `INSERT INTO queues (name) SELECT a.name FROM unnest($1::text[]) WITH ORDINALITY AS a(name, ord)
		WHERE NOT EXISTS (SELECT FROM queues q WHERE q.name = a.name)
		ORDER BY ord LIMIT greatest(0, $2 - (SELECT count(*) FROM queues))`, names, s.limits.Queues)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, "SELECT name FROM queues WHERE name = ANY($1)", names)
	if err != nil {
		return nil, err
	}
	there, name := map[string]bool{}, ""
	_, err = pgx.ForEachRow(rows, []any{&name}, func() error { there[name] = true; return nil })
	return there, err
}

// Pause implements store.Queues.
func (s *Store) Pause(ctx context.Context, name string, paused bool) (version int64, err error) {
	err = s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			if err := tx.QueryRow(ctx, sqlRaisePauses).Scan(&version); err != nil {
				return err
			}
			return s.setPaused(ctx, tx, name, paused)
		})
	})
	if err != nil {
		return 0, err
	}
	return version, nil
}

// Paused implements store.Queues.
func (s *Store) Paused(ctx context.Context) (store.Paused, error) {
	var paused store.Paused
	err := s.server.Read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		paused = store.Paused{}
		return c.QueryRow(ctx, sqlListPaused).Scan(&paused.Version, &paused.Queues)
	})
	if err != nil {
		return store.Paused{}, err
	}
	if len(paused.Queues) == 0 {
		paused.Queues = nil
	}
	return paused, nil
}

// setPaused pauses or resumes a queue, and drops the queue if nothing is left of it. The counts are locked
// meanwhile, so a queue with a task exists until the transaction ends.
func (s *Store) setPaused(ctx context.Context, tx pgx.Tx, name string, paused bool) error {
	if _, err := tx.Exec(ctx, sqlLockCounts); err != nil {
		return err
	}
	var number int32
	was := false
	err := tx.QueryRow(ctx, sqlSetPaused, name, paused).Scan(&number, &was)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return store.NoQueue(name)
	case err == nil && was != paused:
		err = s.note(ctx, tx.Conn(), store.AuditOfPause(ctx, name, paused))
	}
	if err != nil || paused {
		return err
	}
	_, err = tx.Exec(ctx, sqlForgetQueues, []int32{number})
	return err
}

// Queues implements store.Queues.
func (s *Store) Queues(ctx context.Context) ([]store.Queue, error) {
	var list []store.Queue
	err := s.server.List(ctx, func(ctx context.Context, c *pgx.Conn) error {
		list = nil
		rows, err := c.Query(ctx, sqlListQueues)
		if err != nil {
			return err
		}
		var name string
		var paused bool
		var scheduled, queued, running, failed, accepted, finished, oldest *int64
		var now int64
		into := []any{&name, &paused, &scheduled, &queued, &running, &failed, &accepted, &finished, &oldest, &now}
		_, err = pgx.ForEachRow(rows, into, func() error {
			list = append(list, store.Queue{
				Name: name, Paused: paused, Scheduled: value(scheduled), Queued: value(queued), Running: value(running),
				Failed: value(failed), Accepted: value(accepted), Finished: value(finished), Oldest: pack.Time(value(oldest)),
			})
			if oldest != nil {
				list[len(list)-1].OldestAge = max(time.Duration(now-*oldest)*time.Millisecond, 0)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Waiting implements store.Queues.
func (s *Store) Waiting(ctx context.Context) ([]store.Waiting, error) {
	var list []store.Waiting
	err := s.server.List(ctx, func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, sqlListWaiting)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[store.Waiting])
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Beat implements store.Queues. It also deletes nodes that have sent no heartbeat for task.LeaseTime.
func (s *Store) Beat(ctx context.Context, n store.Node) error {
	about, err := json.Marshal(n)
	if err != nil {
		return task.Refuse(task.Internal, "node %s: %v", n.Name, err)
	}
	return s.server.Beat(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var batch pgx.Batch
		batch.Queue(sqlBeatNode, n.Name, string(about[1:]), task.LeaseTime.Milliseconds())
		batch.Queue(sqlForgetNodes, task.LeaseTime.Milliseconds())
		return c.SendBatch(ctx, &batch).Close()
	})
}

// Nodes implements store.Queues.
func (s *Store) Nodes(ctx context.Context) ([]store.Node, error) {
	var list []store.Node
	err := s.server.List(ctx, func(ctx context.Context, c *pgx.Conn) error {
		list = nil
		rows, err := c.Query(ctx, sqlLiveNodes, task.LeaseTime.Milliseconds())
		if err != nil {
			return err
		}
		var about string
		var seen int64
		_, err = pgx.ForEachRow(rows, []any{&about, &seen}, func() error {
			var n store.Node
			err := json.Unmarshal([]byte(about), &n)
			n.Seen = pack.Time(seen)
			list = append(list, n)
			return err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
