// Package sqlite is the store for one process. It keeps durable tasks in one file and needs no server.
//
// A task is a row. Each change is one statement (sql.go). The statement is guarded by the state and the fence
// of the task, and appends an entry to the history in the row. The counts of queues are rows too. The
// transaction that changes a task also changes its count, so Open counts nothing. Queued tasks stay in the
// file; memory holds only the first ids of each lane that a node claims from (lane.go).
//
// Package file manages the database file: one writer, group commit, the lock and the check. Package pack
// encodes the columns of a task. docs/adr/0009 has the reasons.
package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"database/sql/driver"
	"embed"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/file"
	"github.com/posta-tasks/posta/task"
)

// Config configures a Store.
type Config struct {
	Path   string               // of the database, in an existing directory; the names of its other files begin with Path
	Limits store.Limits         // zero fields mean their defaults
	Logger *slog.Logger         // nil means no logs
	Now    func() time.Time     // the store's clock; nil means time.Now
	Steady func() time.Duration // see store.NewClock
}

// Store is a store.Store in an SQLite file.
type Store struct {
	file    *file.File
	clock   *store.Clock
	settled atomic.Int64 // how far the clock had been set at the last commit, in nanoseconds
	view    queueView
	secret  []byte

	// writer is used only by the functions passed to file.Write.
	writer writer
}

var _ store.Store = (*Store)(nil)

// migrations contains the steps that built the schema, numbered from 0001.
//
//go:embed migrations/*.sql
var migrations embed.FS

// Check reports on the store in path and changes nothing in it. Another process may have it open.
func Check(ctx context.Context, path string) (file.Report, error) {
	return file.Inspect(ctx, path, file.MigrationsIn(migrations, "migrations"))
}

// Open opens the store in cfg.Path and creates it if it does not exist. It refuses a file that another process
// has open, and one that a later release has written. The caller must call Close.
func Open(cfg Config) (*Store, error) {
	if cfg.Path == "" {
		return nil, errors.New("the store needs a path")
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{clock: store.NewClock(cfg.Now, cfg.Steady), view: queueView{queues: map[string]queue{}}}
	cfg.Limits.Queues = cmp.Or(cfg.Limits.Queues, task.MaxQueues)
	cfg.Limits.Backlog = cmp.Or(cfg.Limits.Backlog, task.MaxBacklog)
	cfg.Limits.Audit = cmp.Or(cfg.Limits.Audit, task.MaxAudit)
	s.writer = writer{windows: laneWindows{}, reserved: reservedTasks{}, queues: queueSet{limits: cfg.Limits}}
	s.file, err = file.Open(file.Config{
		Path: path, Migrations: file.MigrationsIn(migrations, "migrations"), Logger: cfg.Logger,
		Reload: func(c *file.Conn) error {
			s.writer.ahead = time.Duration(s.settled.Load())
			return s.writer.reload(c)
		},
		BeforeCommit: s.writer.queues.save,
		AfterCommit: func() {
			s.settled.Store(int64(s.writer.ahead))
			s.view.update(s.writer.queues.saved)
		},
	})
	if err != nil {
		return nil, err
	}
	s.view.update(slices.Collect(maps.Values(s.writer.queues.byName)))
	err = s.file.Read(context.Background(), func(c *file.Conn) error {
		return c.Query("SELECT bytes FROM secret", func(row []driver.Value) error {
			s.secret, _ = row[0].([]byte)
			s.secret = bytes.Clone(s.secret)
			return nil
		})
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Secret implements store.Store.
func (s *Store) Secret() []byte { return s.secret }

// Close waits for running calls and closes the file. Later calls are refused with unavailable.
func (s *Store) Close() error { return s.file.Close() }

// Backup writes the store, as the last commit left it, to a new file, which is a complete store. Other calls go
// on meanwhile. Blobs are not included. It fails if the file exists.
func (s *Store) Backup(ctx context.Context, path string) error { return s.file.Backup(ctx, path) }

// Backup is Store.Backup for a store that this process has not opened. Another process may have it open.
func Backup(ctx context.Context, from, to string) error { return file.Backup(ctx, from, to) }

// write runs do in a transaction. do may run more than once, so each time it must set its results anew.
func (s *Store) write(ctx context.Context, do func(w *writer) error) error {
	return s.file.Write(ctx, s.with(do))
}

// with prepares the writer for a call, and then calls do.
func (s *Store) with(do func(w *writer) error) func(*file.Conn) error {
	return func(c *file.Conn) error {
		now, ahead := s.clock.Read()
		s.writer.Conn, s.writer.now = c, pack.Millis(now)
		if err := s.writer.followClock(ahead); err != nil {
			return err
		}
		return do(&s.writer)
	}
}

// rowTime returns the time by the clock that the rows follow: after the clock was set, that is the old clock
// until a call has moved the rows.
func (s *Store) rowTime() time.Time {
	now, ahead := s.clock.Read()
	if by := ahead - time.Duration(s.settled.Load()); store.IsJump(by) {
		return now.Add(-by)
	}
	return now
}

// Kind returns what people call this store.
func (s *Store) Kind() string { return "SQLite" }
