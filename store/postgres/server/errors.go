package server

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posta-tasks/posta/store/pack"
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

// mayRepeat reports whether the server has undone all of a call that would succeed by itself.
func mayRepeat(err error) bool { return classify(err).remedy == again }

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

// refusedError is what a caller of the store is refused with, and why. The refusal is for clients: it
// has nothing in it of the database's own words, which name hosts and users. The rest is for logs.
type refusedError struct {
	refusal *task.Error
	cause   error
}

// Error says both, in one line.
func (e *refusedError) Error() string {
	text := e.refusal.Error() + ": " + oneLine{e.cause}.Error()
	if says, fix := Explain(e.cause); says != "" {
		text += " (" + says + ": " + fix + ")"
	}
	return text
}

// Unwrap returns both.
func (e *refusedError) Unwrap() []error { return []error{e.refusal, e.cause} }

// oneLine is an error whose words stand in one line, which the library's do not.
type oneLine struct{ error }

// Error joins the lines.
func (e oneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }

// Unwrap returns the error itself.
func (e oneLine) Unwrap() error { return e.error }

// refuse says what an error means to the caller of the store.
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
	means := classify(err)
	if errors.As(err, &unreached) || isUnsent(err) {
		if means.remedy == change {
			return refuseNode()
		}
		return task.Refuse(task.Unavailable, "the store cannot be reached; try again later")
	}
	failed := errors.As(err, &reply) && cmp.Or(reply.SeverityUnlocalized, reply.Severity) == "ERROR" // and is undone
	switch {
	case errors.Is(err, pack.ErrDamaged): // in a row: the call fails each time, and others do not
		return task.Refuse(task.Internal, "the store has a damaged row; the node's log says more")
	case writes && !failed && !errors.As(err, &undone):
		return task.Refuse(task.UnknownOutcome, "the store did not answer; whether it was done is not known")
	case means.remedy == change:
		return refuseNode()
	case failed && means.remedy == none:
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
