package file

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// Conn is a connection to the database, for one goroutine at a time. It speaks to the
// driver and not through database/sql, whose locks, contexts and conversions cost as much
// as the statements themselves; of the driver it wants what driver.Conn has.
type Conn struct {
	conn     driver.Conn
	prepared map[string]*statement
}

// statement is a prepared statement, and the room for its arguments and its rows.
type statement struct {
	driver.Stmt
	args []driver.NamedValue
	row  []driver.Value
}

// pragmas of a connection. The timeout comes first: the step to WAL, which only one that
// writes can make, may have to wait.
func pragmas(write bool) []string {
	list := []string{"busy_timeout=10000", "synchronous=FULL", "cache_size=-16000", "temp_store=MEMORY"}
	if write {
		list = append(list, "journal_mode=WAL", "wal_autocheckpoint=4000", "journal_size_limit=67108864")
	}
	return list
}

// connect opens a connection that reads, or that writes as well.
func connect(path string, write bool) (*Conn, error) {
	mode := "ro"
	if write {
		mode = "rwc"
	}
	source := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "mode=" + mode}
	opened, err := new(sqlite.Driver).Open(source.String())
	if err != nil {
		return nil, err
	}
	c := &Conn{conn: opened, prepared: map[string]*statement{}}
	for _, p := range pragmas(write) {
		if err := c.Run("PRAGMA " + p); err != nil {
			return nil, errors.Join(fmt.Errorf("pragma %s: %w", p, err), c.close())
		}
	}
	return c, nil
}

func (c *Conn) close() error {
	var errs []error
	for _, s := range c.prepared {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.conn.Close())...)
}

// Run runs statements that have neither parameters nor rows.
func (c *Conn) Run(script string) error {
	_, err := c.conn.(driver.ExecerContext).ExecContext(context.Background(), script, nil)
	return err
}

// prepare gives the statement with this text and its arguments; it is compiled once.
func (c *Conn) prepare(text string, args []driver.Value) (*statement, error) {
	s := c.prepared[text]
	if s == nil {
		compiled, err := c.conn.Prepare(text)
		if err != nil {
			return nil, fmt.Errorf("preparing %q: %w", text, err)
		}
		s = &statement{Stmt: compiled, args: make([]driver.NamedValue, len(args))}
		c.prepared[text] = s
	}
	for i, a := range args {
		s.args[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	return s, nil
}

// Exec runs a statement and gives the number of rows that it changed.
func (c *Conn) Exec(text string, args ...driver.Value) (int64, error) {
	s, err := c.prepare(text, args)
	if err != nil {
		return 0, err
	}
	result, err := s.Stmt.(driver.StmtExecContext).ExecContext(context.Background(), s.args)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// ErrEnough ends a query early, and is no error of it.
var ErrEnough = errors.New("enough rows")

// Query runs a statement; each gets its rows, whose slice is valid until it returns. A
// change with a RETURNING clause is made whole before the first row is there.
func (c *Conn) Query(text string, each func(row []driver.Value) error, args ...driver.Value) error {
	return c.QueryFor(context.Background(), text, each, args...)
}

// QueryFor is Query for what may take long: it ends with the context.
func (c *Conn) QueryFor(ctx context.Context, text string, each func(row []driver.Value) error, args ...driver.Value) error {
	s, err := c.prepare(text, args)
	if err != nil {
		return err
	}
	rows, err := s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, s.args)
	if err != nil {
		return err
	}
	if s.row == nil {
		s.row = make([]driver.Value, len(rows.Columns()))
	}
	for err == nil {
		if err = rows.Next(s.row); err == nil {
			err = each(s.row)
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, ErrEnough) {
		err = nil
	}
	return errors.Join(err, rows.Close())
}

// isFull tells whether an error says that the disk is full: then nothing was done, since
// the last page of a transaction, which makes it one, was not written.
func isFull(err error) bool {
	var failure *sqlite.Error
	return errors.As(err, &failure) && failure.Code()&0xff == lib.SQLITE_FULL
}

// isOfRow reports whether an error is the fault of a row or a value: the call fails each time, and others do not.
func isOfRow(err error) bool {
	var failure *sqlite.Error
	if errors.As(err, &failure) {
		switch failure.Code() & 0xff {
		case lib.SQLITE_CONSTRAINT, lib.SQLITE_MISMATCH, lib.SQLITE_TOOBIG:
			return true
		}
	}
	return errors.Is(err, pack.ErrDamaged)
}

// refusedError is a refusal and its cause. The refusal is for clients and has none of the database's own words.
// The cause is for logs.
type refusedError struct {
	refusal *task.Error
	cause   error
}

// Error returns both, in one line.
func (e *refusedError) Error() string { return e.refusal.Error() + ": " + e.cause.Error() }

// Unwrap returns both.
func (e *refusedError) Unwrap() []error { return []error{e.refusal, e.cause} }

// refuse turns an error of the database into the refusal of a call that has done nothing.
func refuse(err error) error {
	var refusal *task.Error
	switch {
	case errors.As(err, &refusal):
		return err
	case isFull(err):
		refusal = task.Refuse(task.Unavailable, "the store's disk is full; try again later")
	case isOfRow(err):
		refusal = task.Refuse(task.Internal, "the store refused the call; the node's log says why")
	default:
		refusal = task.Refuse(task.Unavailable, "the store failed; the node's log says why")
	}
	return &refusedError{refusal, err}
}
