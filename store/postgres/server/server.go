// Package server manages the connections to a PostgreSQL server: small pools for work, for heartbeats and for
// lists, so that none of these waits for another. It also applies the migrations, and converts errors of the
// server to errors for callers. It knows nothing about tasks.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posta-tasks/posta/task"
)

// Config configures a Server.
type Config struct {
	URL     string        // postgres://user:password@host:port/database?...
	Steps   fs.FS         // migrations; see step
	Timeout time.Duration // how long a call may take; default 2 s
	Logger  *slog.Logger  // nil means no logs
}

// The sizes of the pools, in connections. The pool for work is small, since a database is hardly faster with
// more connections.
const (
	workConnections = 8
	beatConnections = 2
	listConnections = 2
)

// Timeouts.
const (
	defaultTimeout = 2 * time.Second
	// listTime bounds a list.
	listTime = 10 * time.Second
	// startTime bounds the first connection, and the wait for other processes that migrate.
	startTime = time.Minute
	// migrationTime bounds the migrations.
	migrationTime = 15 * time.Minute
)

// schema is the schema of the tables, unless the URL has a search_path.
const schema = "posta"

// Server is a set of connections to one server. Its methods are safe for concurrent use.
type Server struct {
	logger            *slog.Logger
	work, beat, lists conns
	timeout           time.Duration

	// closing is read-locked by each call and locked by Close. It guards closed.
	closing sync.RWMutex
	closed  bool
}

// conns is the pool of one kind of connection.
type conns struct {
	*pgxpool.Pool
	begin string // the statement that begins each call behind a pooler; "" without a pooler
}

// Open connects and brings the schema up to date. The caller must call Close.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	base, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{logger: cfg.Logger, timeout: cmp.Or(cfg.Timeout, defaultTimeout)}
	if err := migrate(ctx, base, cfg.Steps); err != nil {
		return nil, err
	}
	for _, p := range []struct {
		pool     *conns
		size     int32
		timeout  time.Duration
		settings map[string]string
	}{
		// A statement times out on the server before the call gives up, so that the caller learns that nothing
		// was done.
		{&s.work, max(base.MaxConns, 1), s.timeout * 3 / 4, plannedOnce()},
		{&s.beat, beatConnections, s.timeout * 3 / 4, plannedOnce()},
		{&s.lists, listConnections, listTime, PlannerSettings()},
	} {
		*p.pool, err = newPool(base, p.size, p.timeout, p.settings)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// PlannerSettings returns the settings that make the planner use indexes: by its statistics of a table that was
// empty a moment ago, reading the whole table seems cheaper. A statement without parameters is planned only once
// for each connection.
func PlannerSettings() map[string]string {
	return map[string]string{
		"enable_seqscan": "off", "enable_indexonlyscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
	}
}

// plannedOnce are PlannerSettings with which every statement is planned only once for each connection. Lists are
// not: the best plan of a list depends on its filter.
func plannedOnce() map[string]string {
	settings := PlannerSettings()
	settings["plan_cache_mode"] = "force_generic_plan"
	return settings
}

func newPool(base *target, size int32, timeout time.Duration, settings map[string]string) (p conns, err error) {
	cfg := base.Copy()
	cfg.MaxConns = size
	cfg.MaxConnLifetimeJitter = cfg.MaxConnLifetime / 4
	maps.Copy(cfg.ConnConfig.RuntimeParams, settings)
	cfg.ConnConfig.RuntimeParams["jit"] = "off" // compiling takes a second, and the statement a millisecond
	cfg.ConnConfig.RuntimeParams["statement_timeout"] = fmt.Sprint(timeout.Milliseconds())
	cfg.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = fmt.Sprint(2 * timeout.Milliseconds())
	if base.pooling == pooled {
		if p.begin, err = adapt(cfg.ConnConfig); err != nil {
			return p, err
		}
	}
	p.Pool, err = pgxpool.NewWithConfig(context.Background(), cfg)
	return p, err
}

// Close waits for running calls and closes the connections. Later calls are refused with unavailable.
func (s *Server) Close() error {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	for _, p := range []conns{s.work, s.beat, s.lists} {
		if p.Pool != nil {
			p.Close()
		}
	}
	return nil
}

// Work runs a change on a connection for work. do may run more than once, so each time it must set its results
// anew. The caller gets a *task.Error that do returns unchanged.
func (s *Server) Work(ctx context.Context, do func(ctx context.Context, c *pgx.Conn) error) error {
	return s.call(ctx, &s.work, true, do)
}

// Beat is Work on the connections for heartbeats.
func (s *Server) Beat(ctx context.Context, do func(ctx context.Context, c *pgx.Conn) error) error {
	return s.call(ctx, &s.beat, true, do)
}

// Read is Work for calls that change nothing.
func (s *Server) Read(ctx context.Context, do func(ctx context.Context, c *pgx.Conn) error) error {
	return s.call(ctx, &s.work, false, do)
}

// List is Read on the connections for calls that may take long. It ends when ctx ends.
func (s *Server) List(ctx context.Context, do func(ctx context.Context, c *pgx.Conn) error) error {
	return s.call(ctx, &s.lists, false, do)
}

// call runs a function on a connection of a pool, repeats it if that may help, and converts its error.
func (s *Server) call(ctx context.Context, pool *conns, writes bool, do func(context.Context, *pgx.Conn) error) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if err := ctx.Err(); err != nil {
		return task.Refuse(task.Unavailable, "the store was not asked: %v", err)
	}
	if s.closed {
		return task.Refuse(task.Unavailable, "the store is closed")
	}
	limit := s.timeout
	if pool == &s.lists {
		limit = listTime
	}
	if writes {
		// The call waits for a change that was sent, even if its caller has gone.
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := s.once(ctx, pool, do)
		if err == nil {
			return nil
		}
		if attempt < maxAttempts && mayRepeat(err) && pause(ctx, attempt) {
			continue
		}
		err = refuse(err, writes)
		if task.CodeOf(err) == task.Internal {
			s.logger.Error("the database refused a statement", "error", err)
		}
		return err
	}
}

// once runs a function on a connection. If the connection fails, the others are suspect too: the idle ones are
// closed, so that not every caller gets a dead one.
func (s *Server) once(ctx context.Context, pool *conns, do func(context.Context, *pgx.Conn) error) error {
	c, err := pool.Acquire(ctx)
	if err != nil {
		return &unreachedError{err}
	}
	defer c.Release()
	if c.Conn().IsClosed() {
		return &unreachedError{pgconn.ErrConnClosed}
	}
	if pool.begin == "" {
		err = do(ctx, c.Conn())
	} else {
		err = within(ctx, c.Conn(), pool.begin, do)
	}
	var refused *task.Error
	if err == nil || errors.As(err, &refused) {
		return err
	}
	if c.Conn().IsClosed() || isReadOnly(err) {
		_ = c.Conn().Close(ctx)
		for _, p := range []conns{s.work, s.beat, s.lists} {
			p.Reset()
		}
	}
	return err
}

// isReadOnly reports whether the server has become a standby, which means that another one accepts writes now.
func isReadOnly(err error) bool {
	var reply *pgconn.PgError
	return errors.As(err, &reply) && reply.Code == "25006"
}
