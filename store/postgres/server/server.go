// Package server keeps the connections to a PostgreSQL server: small pools for work, for
// heartbeats and for lists, so that neither waits behind another; the migrations; and what
// an error of the server means to a caller. It knows nothing of tasks.
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

// Config says where a server is, and how it is used.
type Config struct {
	URL     string        // postgres://user:password@host:port/database?...
	Steps   fs.FS         // migrations, as Migrate wants them
	Timeout time.Duration // how long a call may take; 2 s
	Logger  *slog.Logger  // nil: nothing is logged
}

// The pools, in connections. Work is small since a database does little more with many.
const (
	workConnections = 8
	beatConnections = 2
	listConnections = 2
)

// Timeouts.
const (
	defaultTimeout = 2 * time.Second
	// listTime is how long a list may search.
	listTime = 10 * time.Second
	// startTime is how long the first connection and the migrations may take.
	startTime = time.Minute
)

// schema is where the tables are, unless the URL has a search_path.
const schema = "posta"

// Server is the connections to one server. Its methods are safe for concurrent use.
type Server struct {
	logger            *slog.Logger
	work, beat, lists conns
	timeout           time.Duration

	// closing is held for reading by calls under way.
	closing sync.RWMutex
	closed  bool
}

// conns are the connections of one kind.
type conns struct {
	*pgxpool.Pool
	begin string // what begins each call behind a pooler; "": there is none
}

// Open connects, and brings the schema up to date. Close gives the connections back.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	base, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{logger: cfg.Logger, timeout: cmp.Or(cfg.Timeout, defaultTimeout)}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := migrate(ctx, base, cfg.Steps); err != nil {
		return nil, err
	}
	for _, p := range []struct {
		pool     *conns
		size     int32
		timeout  time.Duration
		settings map[string]string
	}{
		// A statement ends on the server before the call gives up, so that the caller learns
		// that nothing was done.
		{&s.work, max(base.MaxConns, 1), s.timeout * 3 / 4, steady()},
		{&s.beat, beatConnections, s.timeout * 3 / 4, steady()},
		{&s.lists, listConnections, listTime, nil},
	} {
		*p.pool, err = newPool(base, p.size, p.timeout, p.settings)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// steady keeps the planner to the indexes: its statistics of a table that was empty a moment ago
// say that reading all of it is cheaper. And it plans a statement once for each connection.
func steady() map[string]string {
	return map[string]string{
		"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
		"plan_cache_mode": "force_generic_plan",
	}
}

func newPool(base *target, size int32, timeout time.Duration, settings map[string]string) (p conns, err error) {
	cfg := base.Copy()
	cfg.MaxConns = size
	cfg.MaxConnLifetimeJitter = cfg.MaxConnLifetime / 4
	maps.Copy(cfg.ConnConfig.RuntimeParams, settings)
	cfg.ConnConfig.RuntimeParams["jit"] = "off" // it takes a second to compile what runs for a millisecond
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

// Close waits for calls under way and gives the connections back.
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

// Work makes a change on one of the connections for work. The function may run more than
// once: what it gives to its caller it sets anew each time. A *task.Error that it returns is
// given to the caller.
func (s *Server) Work(ctx context.Context, do func(ctx context.Context, c *pgx.Conn) error) error {
	return s.call(ctx, &s.work, true, do)
}

// Beat is Work on the connections for heartbeats.
func (s *Server) Beat(ctx context.Context, do func(ctx context.Context, c *pgx.Conn) error) error {
	return s.call(ctx, &s.beat, true, do)
}

// Read is Work for what changes nothing.
func (s *Server) Read(ctx context.Context, do func(ctx context.Context, c *pgx.Conn) error) error {
	return s.call(ctx, &s.work, false, do)
}

// List is Read on the connections for what may take long. It ends with ctx.
func (s *Server) List(ctx context.Context, do func(ctx context.Context, c *pgx.Conn) error) error {
	return s.call(ctx, &s.lists, false, do)
}

// call runs a function on a connection of a pool, and says what became of it.
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
		// A change that has been sent is waited for, although its caller may have gone.
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

// once runs a function on a connection. When one fails the others are not to be trusted
// either: those that are idle are closed, so that not each caller meets a dead one.
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

// isReadOnly tells whether the server has become a standby: another one takes writes now.
func isReadOnly(err error) bool {
	var reply *pgconn.PgError
	return errors.As(err, &reply) && reply.Code == "25006"
}
