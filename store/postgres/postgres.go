// Package postgres is the store for many processes. It keeps durable tasks in a PostgreSQL database that all
// nodes share.
//
// A task is a row. A change is one statement for all tasks of a call (sql_change.go): it locks the rows that
// meet its guard, writes their new state with an entry of the history, moves finished rows to a table of their
// own, and updates the counts. Times come from the clock of the database, so the clocks of the nodes need not
// agree.
//
// Finished tasks are in partitions by the time at which their keep ends. One row has the time up to which tasks are
// deleted (retention.go). They leave the disk when their partition is dropped.
//
// Package server manages the connections and the migrations. docs/adr/0014 has the reasons.
package postgres

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// Config configures a Store.
type Config struct {
	// URL is postgres://user:password@host:port/database with the parameters of libpq. The certificate of the
	// server is verified, unless the server is on this machine or sslmode says otherwise. The tables are in the
	// schema posta, or in the one that search_path names. pgbouncer=true says that a pooler in transaction mode
	// is between the node and the server, and pgbouncer=false that there is none; by default the first
	// connection detects it.
	URL     string
	Limits  store.Limits  // zero fields mean their defaults
	Timeout time.Duration // how long a call may take before it fails; default 2 s
	Logger  *slog.Logger  // nil means no logs
}

// Store is a store.Store in a PostgreSQL database.
type Store struct {
	server *server.Server
	limits store.Limits
	logger *slog.Logger
	secret []byte
	turn   atomic.Int64 // tasks returned by claims without ids
	ahead  atomic.Int64 // how far the database's clock is ahead of ours, in nanoseconds, when last read
}

// now estimates the database's time. It is only used to judge how old an id is.
func (s *Store) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

var _ store.Store = (*Store)(nil)

// migrations contains the steps that built the schema, numbered from 0001.
//
//go:embed migrations/*.sql
var migrations embed.FS

// Open connects to the database and brings its schema up to date. Any number of processes may do so at once. It
// refuses a schema that a later release has changed so much that this release cannot work with it. The caller
// must call Close.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.URL == "" {
		return nil, errors.New("the store needs a URL")
	}
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Limits.Queues = cmp.Or(cfg.Limits.Queues, task.MaxQueues)
	cfg.Limits.Backlog = cmp.Or(cfg.Limits.Backlog, task.MaxBacklog)
	cfg.Limits.Audit = cmp.Or(cfg.Limits.Audit, task.MaxAudit)
	s := &Store{limits: cfg.Limits, logger: cfg.Logger}
	s.server, err = server.Open(ctx, server.Config{URL: cfg.URL, Steps: steps, Timeout: cfg.Timeout, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	err = s.server.Read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, "SELECT bytes FROM secret").Scan(&s.secret)
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Secret implements store.Store.
func (s *Store) Secret() []byte { return s.secret }

// Close waits for running calls and closes the connections. Later calls are refused with unavailable.
func (s *Store) Close() error { return s.server.Close() }

// Kind returns what people call this store.
func (s *Store) Kind() string { return "PostgreSQL" }
