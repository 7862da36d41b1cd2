package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A pooler such as PgBouncer in transaction mode runs each transaction on any free connection to PostgreSQL.
// The state of a session is not available to the next transaction: settings, prepared statements and session
// locks. So behind a pooler each call is an explicit transaction that begins with its settings, and statements
// have no names. That costs two more round trips per call, so a direct connection does not do it.

// pooling is what is known about a pooler between a node and PostgreSQL.
type pooling int

const (
	detected pooling = iota // the first connection detects it
	pooled
	direct
)

// poolerOption is the parameter of the URL for it.
const poolerOption = "pgbouncer"

func parsePooling(value string) (pooling, error) {
	switch value {
	case "":
		return detected, nil
	case "true":
		return pooled, nil
	case "false":
		return direct, nil
	}
	return detected, fmt.Errorf("the store's URL: %s must be true or false; leave it out to have it detected", poolerOption)
}

// passed returns the startup parameters that PgBouncer accepts from every client.
func passed() []string {
	return []string{"application_name", "client_encoding", "datestyle", "timezone", "standard_conforming_strings"}
}

// split splits settings into those with which a connection may start behind a pooler, and those that each
// transaction must set.
func split(settings map[string]string) (startup, local map[string]string) {
	startup, local = map[string]string{}, map[string]string{}
	for name, value := range settings {
		if slices.Contains(passed(), strings.ToLower(name)) {
			startup[name] = value
		} else {
			local[name] = value
		}
	}
	return startup, local
}

// beginWith returns the statement that begins a transaction with its settings.
func beginWith(settings map[string]string) string {
	if len(settings) == 0 {
		return "begin"
	}
	var calls []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		calls = append(calls, fmt.Sprintf("set_config(%s, %s, true)", quoted(name), quoted(settings[name])))
	}
	return "begin; select " + strings.Join(calls, ", ")
}

// quoted returns a literal that has the same meaning with and without standard_conforming_strings.
func quoted(text string) string {
	return " E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

// isPooled reports whether a connection goes to a pooler: the server process that answers is not the one that
// the connection was given when it started.
func isPooled(ctx context.Context, c *pgx.Conn) (bool, error) {
	var pid uint32
	err := c.QueryRow(ctx, "select pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	return pid != c.PgConn().PID(), err
}

// target is what a URL names: the configuration of the connections.
type target struct {
	*pgxpool.Config
	pooling pooling
}

// connect opens a connection outside of the pools. The first call detects whether there is a pooler. begin is
// the statement that begins a transaction on the connection.
func (t *target) connect(ctx context.Context) (c *pgx.Conn, begin string, err error) {
	c, begin, err = t.connectAs(ctx, t.pooling)
	switch {
	case t.pooling != detected:
		return c, begin, err
	case err != nil && refusesSettings(err):
		t.pooling = pooled
		return t.connectAs(ctx, pooled)
	case err != nil:
		return nil, "", err
	}
	between, err := isPooled(ctx, c)
	if err == nil && !between {
		t.pooling = direct
		return c, begin, nil
	}
	_ = c.Close(context.WithoutCancel(ctx))
	if err != nil {
		return nil, "", fmt.Errorf("the database does not answer: %w", err)
	}
	t.pooling = pooled
	return t.connectAs(ctx, pooled)
}

func (t *target) connectAs(ctx context.Context, how pooling) (*pgx.Conn, string, error) {
	cfg := t.ConnConfig.Copy()
	begin := "begin"
	if how == pooled {
		var err error
		if begin, err = adapt(cfg); err != nil {
			return nil, "", err
		}
	}
	c, err := connect(ctx, cfg)
	return c, begin, err
}

// adapt configures connections for a pooler, and returns the statement that begins each transaction.
func adapt(cfg *pgx.ConnConfig) (begin string, err error) {
	if cfg.RuntimeParams["options"] != "" {
		return "", errOptions
	}
	startup, local := split(cfg.RuntimeParams)
	cfg.RuntimeParams = startup
	cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	return beginWith(local), nil
}

// errOptions refuses options, which a transaction cannot set.
var errOptions = errors.New("the store's URL: options does not pass through PgBouncer; write each setting as a parameter of its own, such as &work_mem=8MB")

// within runs a function in a transaction with settings.
func within(ctx context.Context, c *pgx.Conn, begin string, do func(ctx context.Context, c *pgx.Conn) error) error {
	tx, err := c.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
	if err != nil {
		return &undoneError{err}
	}
	defer func() { _ = tx.Rollback(ctx) }() // no effect after the COMMIT
	if err := do(ctx, c); err != nil {
		return &undoneError{err}
	}
	return tx.Commit(ctx)
}

// connection is another name of pgx.Conn, under which joined can embed it although it has a method Conn.
type connection = pgx.Conn

// joined is a transaction inside another one, whose end is also its own.
type joined struct{ *connection }

var _ pgx.Tx = joined{}

// Begin fails: nobody needs it.
func (joined) Begin(context.Context) (pgx.Tx, error) {
	return nil, errors.New("transactions are nested too deeply")
}

// Commit does nothing, since the outer transaction commits.
func (joined) Commit(context.Context) error { return nil }

// Rollback does nothing, since the outer transaction ends with the same error.
func (joined) Rollback(context.Context) error { return nil }

// LargeObjects returns none.
func (joined) LargeObjects() pgx.LargeObjects { return pgx.LargeObjects{} }

// Conn returns the connection.
func (j joined) Conn() *pgx.Conn { return j.connection }

// refusesSettings reports whether PgBouncer has refused a connection because of its startup parameters.
func refusesSettings(err error) bool {
	var reply *pgconn.PgError
	return errors.As(err, &reply) && reply.Code == "08P01" && strings.HasPrefix(reply.Message, "unsupported startup parameter")
}
