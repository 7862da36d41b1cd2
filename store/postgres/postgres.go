// Package postgres is the store for many processes: the truth about durable tasks in a
// PostgreSQL database that all nodes share.
//
// A task is a row. A change of it is one statement for all tasks of a call (change.go): it
// locks the rows that meet its guard, writes their new state with the entry of the history,
// moves those that are finished to a table of their own, and counts them. Times are the
// database's, so that no two nodes need to agree about theirs.
//
// Finished tasks lie in partitions by the time at which they go. What has gone is said by one
// row (sweep.go), and leaves the disk when its partition is dropped.
//
// The room server keeps the connections and the migrations. docs/adr/0014 has the reasons.
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

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// Config says where a store is, and how it behaves.
type Config struct {
	// URL is postgres://user:password@host:port/database with the parameters of libpq. The
	// server's certificate is verified unless it is on this machine or sslmode says otherwise.
	// The tables are in the schema posta, or where search_path says. pgbouncer=true says that a
	// pooler in transaction mode is in between, and false that there is none; without it the first
	// connection finds out.
	URL     string
	Limits  store.Limits  // zero fields mean their defaults
	Timeout time.Duration // how long a call may take, before it is unavailable; 2 s
	Logger  *slog.Logger  // nil: nothing is logged
}

// Store is a store.Store in a PostgreSQL database.
type Store struct {
	server *server.Server
	limits store.Limits
	logger *slog.Logger
	turn   atomic.Int64 // tasks given to claims without ids
	ahead  atomic.Int64 // how far the database's clock is ahead of ours, in nanoseconds, as far as is known
}

// now returns the database's time as far as is known, to judge how old an id is.
func (s *Store) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

var _ store.Store = (*Store)(nil)

// migrations has the steps by which the schema has grown, numbered from 0001.
//
//go:embed migrations/*.sql
var migrations embed.FS

// Open connects to the database and brings its schema up to date; any number of processes
// may do so at once. It refuses a schema that a later release has changed beyond what this
// one can work with. Close gives the connections back.
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
	s := &Store{limits: cfg.Limits, logger: cfg.Logger}
	s.server, err = server.Open(ctx, server.Config{URL: cfg.URL, Steps: steps, Timeout: cfg.Timeout, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close waits for calls under way and gives the connections back.
func (s *Store) Close() error { return s.server.Close() }
