package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posta-tasks/posta/task"
)

// maxAttempts is how often a call is made that stood in another one's way.
const maxAttempts = 6

// unreachedError says that no connection was to be had.
type unreachedError struct{ error }

func (e *unreachedError) Unwrap() error { return e.error }

// undoneError says that a transaction has not come to its COMMIT.
type undoneError struct{ error }

func (e *undoneError) Unwrap() error { return e.error }

// idle is what the protocol says of a connection outside of transactions.
const idle = 'I'

// Tx runs a function in a transaction. Unlike the library's own, it tells an error before the
// COMMIT, with which all is undone, from one of the COMMIT, of which the server may have done all.
// Behind a pooler the call is a transaction already, which the function becomes a part of.
func Tx(ctx context.Context, c *pgx.Conn, do func(tx pgx.Tx) error) error {
	if c.PgConn().TxStatus() != idle {
		return do(joined{c})
	}
	tx, err := c.Begin(ctx)
	if err != nil {
		return &undoneError{err}
	}
	defer func() { _ = tx.Rollback(ctx) }() // after the COMMIT it does nothing
	if err := do(tx); err != nil {
		return &undoneError{err}
	}
	return tx.Commit(ctx)
}

// isUnsent tells whether a statement was not sent at all. The library also says so, that the
// connection is closed, when it closes while the answer to a statement is awaited.
func isUnsent(err error) bool {
	return pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed)
}

// mayRepeat tells whether the server has undone all of a call that would succeed by itself: a
// serialization failure, or a deadlock.
func mayRepeat(err error) bool {
	var reply *pgconn.PgError
	return errors.As(err, &reply) && (reply.Code == "40001" || reply.Code == "40P01")
}

// pause waits a little before a call is repeated, longer each time and never as long as the others
// that failed beside it; false means that there is no time left.
func pause(ctx context.Context, attempt int) bool {
	longest := time.Millisecond << attempt
	select {
	case <-time.After(longest/2 + rand.N(longest)):
		return true
	case <-ctx.Done():
		return false
	}
}

// refuse says what an error means to the caller of the store.
func refuse(err error, writes bool) error {
	var refused *task.Error
	var unreached *unreachedError
	var undone *undoneError
	var reply *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &unreached), isUnsent(err):
		return task.Refuse(task.Unavailable, "the database cannot be reached: %v", err)
	case errors.As(err, &reply) && reply.Severity == "ERROR":
		// The server has undone what the statement did.
		if mayPass(reply.Code) {
			return task.Refuse(task.Unavailable, "the database refused: %v", err)
		}
		return task.Refuse(task.Internal, "the database refused: %v", err)
	case writes && !errors.As(err, &undone):
		return task.Refuse(task.UnknownOutcome, "the database did not answer: %v", err)
	default:
		return task.Refuse(task.Unavailable, "the database did not answer: %v", err)
	}
}

// mayPass tells whether an error of the server is one that passes: it is too slow, full, about
// to stop, or was a standby.
func mayPass(code string) bool {
	for _, class := range []string{"40", "53", "55", "57", "58", "25006"} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}
