package server

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// maxAttempts is how often a call is made that fails because of a concurrent one.
const maxAttempts = 6

// unreachedError means that there was no connection.
type unreachedError struct{ error }

func (e *unreachedError) Unwrap() error { return e.error }

// undoneError means that a transaction ended before its COMMIT.
type undoneError struct{ error }

func (e *undoneError) Unwrap() error { return e.error }

// idle is the transaction status of a connection without a transaction.
const idle = 'I'

// Tx runs a function in a transaction. Unlike pgx, it distinguishes an error before the COMMIT, after which
// nothing was done, from an error of the COMMIT, after which all may have been done. Behind a pooler the call
// is a transaction already, and the function becomes a part of it.
func Tx(ctx context.Context, c *pgx.Conn, do func(tx pgx.Tx) error) error {
	if c.PgConn().TxStatus() != idle {
		return do(joined{c})
	}
	tx, err := c.Begin(ctx)
	if err != nil {
		return &undoneError{err}
	}
	defer func() { _ = tx.Rollback(ctx) }() // no effect after the COMMIT
	if err := do(tx); err != nil {
		return &undoneError{err}
	}
	return tx.Commit(ctx)
}

// isUnsent reports whether a statement was not sent at all. pgx also returns ErrConnClosed when the connection
// closes while a statement waits for its answer, so that error does not count.
func isUnsent(err error) bool {
	return pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed)
}

// mayRepeat reports whether the server has rolled back a call that may succeed when it is repeated.
func mayRepeat(err error) bool { return classify(err).remedy == repeat }

// pause waits before a call is repeated: longer after each attempt, and for a random time, so that calls which
// collided do not collide again. It returns false if ctx ends first.
func pause(ctx context.Context, attempt int) bool {
	longest := time.Millisecond << attempt
	select {
	case <-time.After(longest/2 + rand.N(longest)):
		return true
	case <-ctx.Done():
		return false
	}
}

// refusedError is a refusal with its cause. Clients get the refusal, which contains no message of the database,
// since these name hosts and users. Logs get both.
type refusedError struct {
	refusal *task.Error
	cause   error
}

// Error returns the refusal and the cause in one line.
func (e *refusedError) Error() string {
	text := e.refusal.Error() + ": " + oneLine{e.cause}.Error()
	if problem, fix := Explain(e.cause); problem != "" {
		text += " (" + problem + ": " + fix + ")"
	}
	return text
}

// Unwrap returns the refusal and the cause.
func (e *refusedError) Unwrap() []error { return []error{e.refusal, e.cause} }

// oneLine is an error whose text is one line. Those of pgx may have several, and repeat one for each way in which pgx
// tried to connect.
type oneLine struct{ error }

// Error returns the text with its lines joined.
func (e oneLine) Error() string {
	var lines []string
	for line := range strings.Lines(e.error.Error()) {
		if line = strings.Join(strings.Fields(line), " "); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, " ")
}

// Unwrap returns the original error.
func (e oneLine) Unwrap() error { return e.error }

// refuse converts an error of the database to the refusal of a call. writes says that the call changes
// something.
func refuse(err error, writes bool) error {
	var refused *task.Error
	if errors.As(err, &refused) {
		return refused
	}
	return &refusedError{refusalFor(err, writes), err}
}

func refusalFor(err error, writes bool) *task.Error {
	var unreached *unreachedError
	var undone *undoneError
	var reply *pgconn.PgError
	fault := classify(err)
	if errors.As(err, &unreached) || isUnsent(err) {
		if fault.remedy == reconfigure {
			return refuseNode()
		}
		return task.Refuse(task.Unavailable, "the store cannot be reached; try again later")
	}
	failed := errors.As(err, &reply) && cmp.Or(reply.SeverityUnlocalized, reply.Severity) == "ERROR" // and the server has rolled back
	switch {
	case errors.Is(err, pack.ErrDamaged): // of one row: this call fails every time, but others do not
		return task.Refuse(task.Internal, "the store has a damaged row; the node's log says which")
	case writes && !failed && !errors.As(err, &undone):
		return task.Refuse(task.UnknownOutcome, "the store did not answer; it is not known whether the change was stored")
	case fault.remedy == reconfigure:
		return refuseNode()
	case failed && fault.remedy == none:
		return task.Refuse(task.Internal, "the store refused the statement; the node's log says why")
	case failed:
		return task.Refuse(task.Unavailable, "the store is too busy or about to stop; try again later")
	default:
		return task.Refuse(task.Unavailable, "the store did not answer; try again later")
	}
}

func refuseNode() *task.Error {
	return task.Refuse(task.Unavailable, "the store refuses this node; the node's log says why")
}
