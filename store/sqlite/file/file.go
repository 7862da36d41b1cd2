// Package file keeps an SQLite database that one process has to itself: its lock, its
// schema, one goroutine that writes, a few connections that read, its check and its
// backups. What is in it is its owner's business.
//
// Callers hand the writer functions; whatever waited while the last commit ran shares the
// next transaction, and nobody is answered before its COMMIT has been written through to
// the disk (WAL, synchronous=FULL).
//
//	Write → calls → writer: BEGIN, each call, those of WriteLast, Config.Commit, COMMIT, Config.Committed → answers
//	Read  → one of a few connections, which see what was committed
//
// After a stop without Close the file is checked, while it serves. docs/adr/0009 has the
// reasons.
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

// Config says where a file is, and what its owner does. All fields are required.
type Config struct {
	Path   string // absolute; of the database. The names of its companions begin with it
	Steps  fs.FS  // the schema: 0001_….sql and so on, in the order in which it has grown
	Logger *slog.Logger

	// Fresh reads what the owner keeps in memory, as the last commit has left it: at first
	// and after each rollback.
	Fresh func(c *Conn) error
	// Commit writes, before each COMMIT, what the owner has kept back until then.
	Commit func(c *Conn) error
	// Committed is told that this is on stable storage, before the callers are.
	Committed func()
}

// File is a database that is open. Its methods are safe for concurrent use; the functions
// of its Config and those handed to Write are never called at the same time.
type File struct {
	cfg     Config
	lock    *lock
	calls   chan *call
	readers chan *Conn            // nil stands for one that is not open
	damage  atomic.Pointer[error] // why nothing is written any more
	checked chan struct{}
	cut     context.CancelFunc // of the check
	stopped chan struct{}      // the writer has ended

	// closing is held by calls, and by Close alone.
	closing sync.RWMutex
	closed  bool
}

// readConnections is how many reads run at once.
const readConnections = 4

// Open opens the file, or makes it. It refuses one that another process has open, and one
// that a later release has written. Close gives it back.
func Open(cfg Config) (*File, error) {
	f := &File{
		cfg:     cfg,
		calls:   make(chan *call, maxGroup),
		readers: make(chan *Conn, readConnections),
		checked: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	for range readConnections {
		f.readers <- nil
	}
	var err error
	if f.lock, err = takeLock(cfg.Path + ".lock"); err != nil {
		return nil, err
	}
	fail.Point("open.locked")
	w := &writer{File: f}
	if err = makeFile(cfg.Path); err == nil {
		err = migrate(cfg.Path, cfg.Steps)
	}
	if err == nil {
		err = w.open()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", cfg.Path, err), f.lock.release(f.lock.wasClean))
	}
	go w.run()
	var ctx context.Context
	ctx, f.cut = context.WithCancel(context.Background())
	go f.check(ctx)
	return f, nil
}

// makeFile makes the file if it is not there, for its owner alone; SQLite would let all read.
func makeFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}

// Close waits for calls under way and gives the file back.
func (f *File) Close() error {
	f.closing.Lock()
	defer f.closing.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	f.cut()
	<-f.checked
	var errs []error
	for range readConnections {
		if c := <-f.readers; c != nil {
			errs = append(errs, c.close())
		}
	}
	// The writer's connection is the last, since only it may fold the log of changes into
	// the file and delete it.
	close(f.calls)
	<-f.stopped
	return errors.Join(append(errs, f.lock.release(f.lock.wasClean))...)
}

// begin holds off Close until end is called, unless it has come already.
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

// Write hands a function to the writer and waits for the commit. The function may run more
// than once: what it gives to its caller it sets anew each time. A *task.Error that it
// returns is given to the caller and spoils nothing; with any other error what it did is
// rolled back.
func (f *File) Write(ctx context.Context, do func(c *Conn) error) error {
	return f.write(&call{ctx: ctx, do: do, done: make(chan error, 1)})
}

// WriteLast is Write for what should see the changes of those that share its transaction: of
// these, it runs after all that Write was given.
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

// Read runs a function on a connection that reads. One on which it fails is closed, and
// opened again by whoever needs it next.
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

// refuse is refuse, and logs what is the fault of a row: it does not pass by itself.
func (f *File) refuse(err error) error {
	if err = refuse(err); isOfRow(err) {
		f.cfg.Logger.Error("the database refused a call", "error", err)
	}
	return err
}
