// Package file manages an SQLite database that only one process uses: its lock, its schema, one goroutine that
// writes, a few connections that read, its check and its backups. It does not know the tables.
//
// Callers pass functions to the writer. All calls that arrive during a commit share the next transaction (group
// commit). No caller gets its answer before its COMMIT is on the disk (WAL, synchronous=FULL).
//
//	Write → calls → writer: BEGIN, each call, those of WriteLast, Config.BeforeCommit, COMMIT, Config.AfterCommit → answers
//	Read  → one of a few connections, which see what is committed
//
// If the process stopped without Close, the next Open checks the file while it serves calls. docs/adr/0009 has
// the reasons.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/task"
)

// Config configures a File. All fields are required.
type Config struct {
	Path       string // absolute path of the database; the names of the other files begin with it
	Migrations fs.FS  // the schema: 0001_….sql and so on, each applied once and in order
	Logger     *slog.Logger

	// Reload reads what the owner caches in memory from the last commit. It is called by Open and after each
	// rollback.
	Reload func(c *Conn) error
	// BeforeCommit writes, before each COMMIT, the changes that the owner has kept in memory.
	BeforeCommit func(c *Conn) error
	// AfterCommit is called when a commit is on stable storage, before the callers get their answers.
	AfterCommit func()
}

// File is an open database. Its methods are safe for concurrent use. The functions of its Config and those
// passed to Write never run at the same time.
type File struct {
	cfg       Config
	lock      *lock
	calls     chan *call
	readers   chan *Conn            // nil stands for a connection that is not open
	damage    atomic.Pointer[error] // why the file is not written any more
	checked   chan struct{}         // closed when the check has ended
	stopCheck context.CancelFunc
	stopped   chan struct{} // closed when the writer has ended

	// closing is read-locked by each call and locked by Close. It guards closed.
	closing sync.RWMutex
	closed  bool
}

// readConnections bounds the reads that run at the same time.
const readConnections = 4

// Open opens the file and creates it if it does not exist. It refuses a file that another process has open, and
// one that a later release has written. The caller must call Close.
func Open(cfg Config) (*File, error) {
	f := &File{
		cfg:     cfg,
		calls:   make(chan *call, maxBatch),
		readers: make(chan *Conn, readConnections),
		checked: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	for range readConnections {
		f.readers <- nil
	}
	var err error
	if f.lock, err = acquireLock(cfg.Path + ".lock"); err != nil {
		return nil, err
	}
	fail.Point("open.locked")
	w := &writer{File: f}
	if err = createFile(cfg.Path); err == nil {
		err = migrate(cfg.Path, cfg.Migrations)
	}
	if err == nil {
		err = w.open()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", cfg.Path, err), f.lock.release(f.lock.wasClean))
	}
	go w.run()
	var ctx context.Context
	ctx, f.stopCheck = context.WithCancel(context.Background())
	go f.check(ctx)
	return f, nil
}

// createFile creates the file if it does not exist, readable by its owner only; SQLite would let everyone read
// it.
func createFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}

// Close waits for running calls, then closes the file and releases the lock. Later calls are refused.
func (f *File) Close() error {
	f.closing.Lock()
	defer f.closing.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	f.stopCheck()
	<-f.checked
	var errs []error
	for range readConnections {
		if c := <-f.readers; c != nil {
			errs = append(errs, c.close())
		}
	}
	// The writer's connection is closed last, since only it can merge the write-ahead log into the file and
	// delete it.
	close(f.calls)
	<-f.stopped
	return errors.Join(append(errs, f.lock.release(f.lock.wasClean))...)
}

// begin delays Close until the caller calls end. It fails after Close.
func (f *File) begin(ctx context.Context) (end func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, task.Refuse(task.Unavailable, "the store was not asked: %v", err)
	}
	f.closing.RLock()
	if f.closed {
		f.closing.RUnlock()
		return nil, task.Refuse(task.Unavailable, "the store is closed")
	}
	return f.closing.RUnlock, nil
}

// Write runs do in the writer's next transaction and waits for its commit. do may run more than once, so each
// time it must set its results anew. If do returns a *task.Error, the caller gets it and the transaction goes
// on. After any other error, all that do has changed is rolled back.
func (f *File) Write(ctx context.Context, do func(c *Conn) error) error {
	return f.write(&call{ctx: ctx, do: do, done: make(chan error, 1)})
}

// WriteLast is Write for functions that should see the changes of the other calls in their transaction: they
// run after all functions passed to Write.
func (f *File) WriteLast(ctx context.Context, do func(c *Conn) error) error {
	return f.write(&call{ctx: ctx, do: do, done: make(chan error, 1), last: true})
}

func (f *File) write(c *call) error {
	end, err := f.begin(c.ctx)
	if err != nil {
		return err
	}
	defer end()
	select {
	case f.calls <- c:
	case <-c.ctx.Done():
		return task.Refuse(task.Unavailable, "the store was not asked: %v", c.ctx.Err())
	}
	return <-c.done
}

// Read runs do on a connection that only reads. If do fails, the connection is closed, and a later Read opens
// it again.
func (f *File) Read(ctx context.Context, do func(c *Conn) error) error {
	end, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	var c *Conn
	select {
	case c = <-f.readers:
	case <-ctx.Done():
		return task.Refuse(task.Unavailable, "the store was not asked: %v", ctx.Err())
	}
	if c == nil {
		c, err = connect(f.cfg.Path, false)
	}
	if err == nil {
		err = do(c)
	}
	if err != nil && c != nil {
		c.close()
		c = nil
	}
	f.readers <- c
	if err != nil {
		return f.refuse(err)
	}
	return nil
}

// refuse is the function refuse. It also logs errors caused by a row, since they do not go away by themselves.
func (f *File) refuse(err error) error {
	if err = refuse(err); isOfRow(err) {
		f.cfg.Logger.Error("the database refused a call", "error", err)
	}
	return err
}
