package file

import (
	"context"
	"errors"
	"runtime"
	"slices"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/task"
)

// maxGroup bounds the calls that share a transaction, so that the first of them does not
// wait for ever more others.
const maxGroup = 1024

// call is what a caller waits for. do may run more than once, and begins anew each time.
type call struct {
	ctx  context.Context
	do   func(c *Conn) error
	done chan error
	last bool // it runs after those that are not
}

// writer is the one goroutine that changes the database. Whatever waited while the last
// commit ran shares the next; there is no timer.
type writer struct {
	*File
	conn *Conn // nil when it was lost and has not been opened again
}

// open connects, and lets the owner read what it keeps in memory.
func (w *writer) open() error {
	c, err := connect(w.cfg.Path, true)
	if err != nil {
		return err
	}
	if err := w.cfg.Fresh(c); err != nil {
		return errors.Join(err, c.close())
	}
	w.conn = c
	return nil
}

// run serves calls until there will be no more.
func (w *writer) run() {
	defer close(w.stopped)
	for first := range w.calls {
		w.serve(inTurn(w.collect(first)))
	}
	if w.conn != nil {
		w.conn.close()
	}
}

// collect adds what is waiting to the first call. Callers that were answered just now are
// given the processor once, so that those who come back at once share this transaction
// and not the one after it.
func (w *writer) collect(first *call) []*call {
	group := []*call{first}
	for yielded := false; len(group) < maxGroup; {
		select {
		case c, ok := <-w.calls:
			if !ok {
				return group
			}
			group, yielded = append(group, c), false
		default:
			if yielded {
				return group
			}
			yielded = true
			runtime.Gosched()
		}
	}
	return group
}

// inTurn puts the calls that run last behind the others; both keep their order.
func inTurn(group []*call) []*call {
	slices.SortStableFunc(group, func(a, b *call) int {
		switch {
		case a.last == b.last:
			return 0
		case b.last:
			return -1
		default:
			return 1
		}
	})
	return group
}

// serve makes a group of calls in one transaction and answers them. A group in which one
// call fails is rolled back and made again call by call, so that each gets its own error
// and none needs a savepoint.
func (w *writer) serve(group []*call) {
	err := w.ready()
	if err == nil {
		err = w.attempt(group)
	}
	switch {
	case err == nil:
	case len(group) > 1 && task.CodeOf(err) != task.UnknownOutcome:
		for i := range group {
			w.serve(group[i : i+1])
		}
	default:
		err = w.refuse(err)
		for _, c := range group {
			c.done <- err
		}
	}
}

// ready opens the connection again when it was lost.
func (w *writer) ready() error {
	if reason := w.damage.Load(); reason != nil {
		return &refusedError{task.Refuse(task.Unavailable, "the store's file is damaged, and nothing is written to it; the node's log says more"), *reason}
	}
	if w.conn != nil {
		return nil
	}
	return w.open()
}

// attempt makes a group of calls and answers them when that succeeds.
func (w *writer) attempt(group []*call) error {
	answers, err := w.transact(group)
	if err != nil {
		w.undo()
		return err
	}
	fail.Point("commit.after")
	w.cfg.Committed()
	answer(group, answers)
	return nil
}

func answer(group []*call, answers []error) {
	for i, c := range group {
		c.done <- answers[i]
	}
}

func (w *writer) transact(group []*call) ([]error, error) {
	if _, err := w.conn.Exec("BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	answers := make([]error, len(group))
	for i, c := range group {
		err := c.make(w.conn)
		if isRefusal := new(*task.Error); err != nil && !errors.As(err, isRefusal) {
			return nil, err
		}
		answers[i] = err
	}
	if err := w.cfg.Commit(w.conn); err != nil {
		return nil, err
	}
	if fail.Mutant("answer-before-commit") {
		answer(group, answers)
	}
	if err := fail.Error("commit.before"); err != nil {
		return nil, err
	}
	return answers, w.commit()
}

// make makes one call. A refusal that it returns has changed nothing.
func (c *call) make(conn *Conn) error {
	if err := c.ctx.Err(); err != nil {
		return task.Refuse(task.Unavailable, "the store was not asked: %v", err)
	}
	return c.do(conn)
}

// commit ends the transaction. When that fails for another reason than a full disk, the
// pages may be in the file all the same, and a crash would bring them back.
func (w *writer) commit() error {
	_, err := w.conn.Exec("COMMIT")
	if err == nil || isFull(err) {
		return err
	}
	w.cfg.Logger.Error("commit failed", "error", err)
	return &refusedError{task.Refuse(task.UnknownOutcome, "the store's commit failed; whether it was done is not known"), err}
}

// undo rolls back. SQLite may have done so already, which is why the error of ROLLBACK says
// nothing; a connection that cannot read any more is opened anew by the next call.
func (w *writer) undo() {
	_, _ = w.conn.Exec("ROLLBACK")
	if err := w.cfg.Fresh(w.conn); err != nil {
		w.cfg.Logger.Error("connection lost", "error", err)
		w.conn.close()
		w.conn = nil
	}
}
