// Package sqlite is the store for one process. It keeps durable tasks in one file and needs no server.
//
// A task is a row. Each change is one statement (sql.go) that is guarded by the state and the fence of the
// task, and appends an entry to the history in the row. The counts of queues are rows too. The transaction that
// changes a task also changes its count, so opening the store counts nothing. Queued tasks stay in the file;
// memory has only the first ids of each lane that a node claims from (lane.go).
//
// Package file manages the database file: one writer, group commit, the lock and the check. Package pack
// encodes the columns of a task. docs/adr/0009 has the reasons.
package sqlite

import (
	"cmp"
	"context"
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

// Config says where a store is, and how it behaves.
type Config struct {
	Path   string               // of the database; others beside it begin with its name. Its directory is there
	Limits store.Limits         // zero fields mean their defaults
	Logger *slog.Logger         // nil: nothing is logged
	Now    func() time.Time     // the store's clock; nil: time.Now
	Steady func() time.Duration // see store.NewClock
}

// Store is a store.Store in a file.
type Store struct {
	file    *file.File
	clock   *store.Clock
	settled atomic.Int64 // how far the clock had been set at the last commit, in nanoseconds
	board   board

	// writer belongs to the functions that are handed to file.Write.
	writer writer
}

var _ store.Store = (*Store)(nil)

// migrations has the steps by which the schema has grown, numbered from 0001.
//
//go:embed migrations/*.sql
var migrations embed.FS

// Check looks at the store in path, whoever has it open, and changes nothing in it.
func Check(ctx context.Context, path string) (file.Report, error) {
	return file.Inspect(ctx, path, file.MigrationsIn(migrations, "migrations"))
}

// Open opens the store in cfg.Path, or makes it. It refuses a file that another process
// has open, and one that a later release has written. Close gives it back.
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
	s := &Store{clock: store.NewClock(cfg.Now, cfg.Steady), board: board{queues: map[string]queue{}}}
	cfg.Limits.Queues = cmp.Or(cfg.Limits.Queues, task.MaxQueues)
	cfg.Limits.Backlog = cmp.Or(cfg.Limits.Backlog, task.MaxBacklog)
	s.writer = writer{windows: laneWindows{}, runs: runs{}, queues: queueSet{limits: cfg.Limits}}
	s.file, err = file.Open(file.Config{
		Path: path, Migrations: file.MigrationsIn(migrations, "migrations"), Logger: cfg.Logger,
		Reload: func(c *file.Conn) error {
			s.writer.ahead = time.Duration(s.settled.Load())
			return s.writer.fresh(c)
		},
		BeforeCommit: s.writer.queues.save,
		AfterCommit: func() {
			s.settled.Store(int64(s.writer.ahead))
			s.board.show(s.writer.queues.saved)
		},
	})
	if err != nil {
		return nil, err
	}
	s.board.show(slices.Collect(maps.Values(s.writer.queues.byName)))
	return s, nil
}

// Close waits for calls under way and gives the file back.
func (s *Store) Close() error { return s.file.Close() }

// Backup writes the store, as the last commit left it, to a file that is not there yet; it
// is a store like any other. All else goes on. Blobs are not in it.
func (s *Store) Backup(ctx context.Context, path string) error { return s.file.Backup(ctx, path) }

// Backup is Store.Backup for a store that this process has not opened, whoever else has.
func Backup(ctx context.Context, from, to string) error { return file.Backup(ctx, from, to) }

// write makes changes. The function may run more than once; what it gives to its caller it
// sets anew each time.
func (s *Store) write(ctx context.Context, do func(w *writer) error) error {
	return s.file.Write(ctx, s.with(do))
}

// with hands the writer to a function.
func (s *Store) with(do func(w *writer) error) func(*file.Conn) error {
	return func(c *file.Conn) error {
		now, ahead := s.clock.Read()
		s.writer.Conn, s.writer.now = c, pack.Millis(now)
		if err := s.writer.follow(ahead); err != nil {
			return err
		}
		return do(&s.writer)
	}
}

// settledNow returns the time as it is in the rows: when the clock has just been set, no call may have moved them
// yet.
func (s *Store) settledNow() time.Time {
	now, ahead := s.clock.Read()
	if by := ahead - time.Duration(s.settled.Load()); store.IsJump(by) {
		return now.Add(-by)
	}
	return now
}
