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

// Conn is a connection to the database, for one goroutine at a time. It calls the driver directly and not
// through database/sql, whose locks, contexts and conversions cost as much as the statements themselves.
type Conn struct {
	conn     driver.Conn
	prepared map[string]*statement
}

// statement is a prepared statement with reused slices for its arguments and for one row.
type statement struct {
	driver.Stmt
	args []driver.NamedValue
	row  []driver.Value
}

// pragmas returns the pragmas of a connection. busy_timeout comes first, since journal_mode may have to wait
// for another connection. Only a connection that writes can change journal_mode.
func pragmas(write bool) []string {
	list := []string{"busy_timeout=10000", "synchronous=FULL", "cache_size=-16000", "temp_store=MEMORY"}
	if write {
		list = append(list, "journal_mode=WAL", "wal_autocheckpoint=4000", "journal_size_limit=67108864")
	}
	return list
}

// connect opens a connection that only reads, or one that also writes.
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

// prepare returns the compiled statement with its arguments set. Each text is compiled only once.
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

// Exec runs a statement and returns the number of rows that it changed.
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

// ErrEnough ends a query early when the callback returns it. The query itself does not fail.
var ErrEnough = errors.New("enough rows")

// Query runs a statement and calls each for every row. The slice is valid until each returns. A statement with
// a RETURNING clause has made all its changes before the first row.
func (c *Conn) Query(text string, each func(row []driver.Value) error, args ...driver.Value) error {
	return c.QueryFor(context.Background(), text, each, args...)
}

// QueryFor is Query for statements that may take long: it ends when ctx ends.
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

// isFull reports whether an error means that the disk is full. Then nothing was done: the last page of the
// transaction, without which it does not count, was not written.
func isFull(err error) bool {
	var failure *sqlite.Error
	return errors.As(err, &failure) && failure.Code()&0xff == lib.SQLITE_FULL
}

// isOfRow reports whether an error is caused by one row or value. Such a call fails every time, but others do
// not.
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

// refusedError is a refusal with its cause. Clients get the refusal, which contains no message of the database.
// Logs get both.
type refusedError struct {
	refusal *task.Error
	cause   error
}

// Error returns the refusal and the cause in one line.
func (e *refusedError) Error() string { return e.refusal.Error() + ": " + e.cause.Error() }

// Unwrap returns the refusal and the cause.
func (e *refusedError) Unwrap() []error { return []error{e.refusal, e.cause} }

// refuse converts an error of the database to the refusal of a call that has changed nothing.
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
