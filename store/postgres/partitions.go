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

// maxBuckets is how many partitions a statement may find missing, one after the other: each
// class of keep has a few at a time.
const maxBuckets = 100

// finish is Work for changes that may finish tasks: the partitions that they need are made when they
// are missed, which happens once in the time that one of them spans.
func (s *Store) finish(ctx context.Context, do func(ctx context.Context, c *pgx.Conn) error) error {
	for range maxBuckets {
		var bucket int64
		missed := false
		err := s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
			err := do(ctx, c)
			if bucket, missed = missingBucket(err); missed {
				err = task.Refuse(task.Unavailable, "a partition is missing") // it is made below: no error for the log
			}
			return err
		})
		if !missed {
			return err
		}
		// The error has ended the transaction, if it was in one.
		err = s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error { return makeBucket(ctx, c, bucket) })
		if err != nil {
			return err
		}
	}
	return task.Refuse(task.Internal, "more than %d partitions were missing", maxBuckets)
}

// missingBucket tells which partition a statement has missed.
func missingBucket(err error) (bucket int64, missed bool) {
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

// makeBucket makes a partition. It is attached rather than made as one, since that lets
// everybody else go on.
func makeBucket(ctx context.Context, c *pgx.Conn, bucket int64) error {
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

// partition names the partition of a bucket.
func partition(bucket int64) string { return fmt.Sprint("finished_", bucket) }
