package file

import (
	"context"
	"errors"
	"runtime"
	"slices"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/task"
)

// maxBatch bounds the calls that share a transaction, so that the first of them does not wait for an endless
// stream of others.
const maxBatch = 1024

// call is a function that waits for its transaction. do may run more than once.
type call struct {
	ctx  context.Context
	do   func(c *Conn) error
	done chan error
	last bool // do runs after the calls that are not last
}

// writer is the only goroutine that changes the database. All calls that arrive during a commit share the next
// one; there is no timer.
type writer struct {
	*File
	conn *Conn // nil after it was lost, until it is opened again
}

// open connects and lets the owner load its state.
func (w *writer) open() error {
	c, err := connect(w.cfg.Path, true)
	if err != nil {
		return err
	}
	if err := w.cfg.Reload(c); err != nil {
		return errors.Join(err, c.close())
	}
	w.conn = c
	return nil
}

// run serves calls until the channel of calls is closed.
func (w *writer) run() {
	defer close(w.stopped)
	for first := range w.calls {
		w.serve(lastBehind(w.collect(first)))
	}
	if w.conn != nil {
		w.conn.close()
	}
}

// collect returns the first call and all that wait behind it. Before it returns, it yields the processor once
// to the callers that have just been answered: those that call again at once then share this transaction and
// not the next one.
func (w *writer) collect(first *call) []*call {
	batch := []*call{first}
	for yielded := false; len(batch) < maxBatch; {
		select {
		case c, ok := <-w.calls:
			if !ok {
				return batch
			}
			batch, yielded = append(batch, c), false
		default:
			if yielded {
				return batch
			}
			yielded = true
			runtime.Gosched()
		}
	}
	return batch
}

// lastBehind sorts the calls that are last behind the others. Both keep their order.
func lastBehind(batch []*call) []*call {
	slices.SortStableFunc(batch, func(a, b *call) int {
		switch {
		case a.last == b.last:
			return 0
		case b.last:
			return -1
		default:
			return 1
		}
	})
	return batch
}

// serve runs a batch of calls in one transaction and answers them. If one call fails, serve rolls the batch
// back and runs each call in a transaction of its own. So each call gets its own error, and no call needs a
// savepoint.
func (w *writer) serve(batch []*call) {
	err := w.reconnect()
	if err == nil {
		err = w.attempt(batch)
	}
	switch {
	case err == nil:
	case len(batch) > 1 && task.CodeOf(err) != task.UnknownOutcome:
		for i := range batch {
			w.serve(batch[i : i+1])
		}
	default:
		err = w.refuse(err)
		for _, c := range batch {
			c.done <- err
		}
	}
}

// reconnect opens the connection if it was lost. It fails if the file is damaged.
func (w *writer) reconnect() error {
	if reason := w.damage.Load(); reason != nil {
		return &refusedError{task.Refuse(task.Unavailable, "the store's file is damaged and is not written any more; the node's log says why"), *reason}
	}
	if w.conn != nil {
		return nil
	}
	return w.open()
}

// attempt runs a batch of calls and answers them if the commit succeeds.
func (w *writer) attempt(batch []*call) error {
	answers, err := w.transact(batch)
	if err != nil {
		w.rollback()
		return err
	}
	fail.Point("commit.after")
	w.cfg.AfterCommit()
	answer(batch, answers)
	return nil
}

func answer(batch []*call, answers []error) {
	for i, c := range batch {
		c.done <- answers[i]
	}
}

func (w *writer) transact(batch []*call) ([]error, error) {
	if _, err := w.conn.Exec("BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	answers := make([]error, len(batch))
	for i, c := range batch {
		err := c.run(w.conn)
		if isRefusal := new(*task.Error); err != nil && !errors.As(err, isRefusal) {
			return nil, err
		}
		answers[i] = err
	}
	if err := w.cfg.BeforeCommit(w.conn); err != nil {
		return nil, err
	}
	if err := fail.Error("commit.before"); err != nil {
		return nil, err
	}
	return answers, w.commit()
}

// run runs one call. A refusal that it returns has changed nothing.
func (c *call) run(conn *Conn) error {
	if err := c.ctx.Err(); err != nil {
		return task.Refuse(task.Unavailable, "the store was not asked: %v", err)
	}
	return c.do(conn)
}

// commit commits the transaction. If it fails for any reason but a full disk, the outcome is unknown: the pages
// may be in the file, and recovery after a crash could restore them.
func (w *writer) commit() error {
	_, err := w.conn.Exec("COMMIT")
	if err == nil || isFull(err) {
		return err
	}
	w.cfg.Logger.Error("commit failed", "error", err)
	return &refusedError{task.Refuse(task.UnknownOutcome, "the store's commit failed; it is not known whether the change was stored"), err}
}

// rollback rolls the transaction back. It ignores the error of ROLLBACK, since SQLite may have rolled back
// already. If the connection cannot be read any more, the next call opens a new one.
func (w *writer) rollback() {
	_, _ = w.conn.Exec("ROLLBACK")
	if err := w.cfg.Reload(w.conn); err != nil {
		w.cfg.Logger.Error("connection lost", "error", err)
		w.conn.close()
		w.conn = nil
	}
}
