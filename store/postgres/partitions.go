package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// maxPartitions is how many partitions a statement may find missing, one after the other: each class of keep
// has a few at a time.
const maxPartitions = 100

// finish is Work for changes that may finish tasks. It creates the partitions that they need when they are
// missing, which happens once in each span of time that a partition covers.
func (s *Store) finish(ctx context.Context, do func(ctx context.Context, c *pgx.Conn) error) error {
	for range maxPartitions {
		var bucket int64
		missed := false
		err := s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
			err := do(ctx, c)
			if bucket, missed = missingPartition(err); missed {
				err = task.Refuse(task.Unavailable, "a partition is missing") // created below, so it is not an error for the log
			}
			return err
		})
		if !missed {
			return err
		}
		// The error has ended the transaction, if there was one.
		err = s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error { return createPartition(ctx, c, bucket) })
		if err != nil {
			return err
		}
	}
	return task.Refuse(task.Internal, "more than %d partitions were missing", maxPartitions)
}

// missingPartition reports which partition a statement has found missing.
func missingPartition(err error) (bucket int64, missed bool) {
	const checkViolation = "23514"
	var reply *pgconn.PgError
	if !errors.As(err, &reply) || reply.Code != checkViolation {
		return 0, false
	}
	found := regexp.MustCompile(`\(bucket\) = \((\d+)\)`).FindStringSubmatch(reply.Detail)
	if found == nil {
		return 0, false
	}
	bucket, err = strconv.ParseInt(found[1], 10, 64)
	return bucket, err == nil
}

// createPartition creates a partition. It attaches a table, rather than creating it as a partition, because
// that does not block other statements.
func createPartition(ctx context.Context, c *pgx.Conn, bucket int64) error {
	return server.Tx(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "LOCK TABLE sweep IN SHARE UPDATE EXCLUSIVE MODE"); err != nil {
			return err
		}
		name, there := partition(bucket), false
		err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", name).Scan(&there)
		if err != nil || there {
			return err
		}
		_, err = tx.Exec(ctx, fmt.Sprintf("CREATE TABLE %s (LIKE finished INCLUDING INDEXES); "+
			"ALTER TABLE finished ATTACH PARTITION %[1]s FOR VALUES IN (%d)", name, bucket), pgx.QueryExecModeSimpleProtocol)
		return err
	})
}

// partition returns the name of the partition of a bucket.
func partition(bucket int64) string { return fmt.Sprint("finished_", bucket) }
