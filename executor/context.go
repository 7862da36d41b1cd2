package executor

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of one attempt. It makes its channel only when
// somebody asks for it, since most quick actions never do.
type callContext struct {
	e        *Executor
	deadline int64 // by Executor.now

	mu   sync.Mutex // guards the two below
	done chan struct{}
	err  error
}

var _ context.Context = (*callContext)(nil)

// Deadline is when the attempt's timeout runs out.
func (c *callContext) Deadline() (time.Time, bool) {
	return c.e.base.Add(time.Duration(c.deadline)), true
}

// Done gives the channel that is closed when the attempt should stop.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// Err says why the attempt should stop, or nil.
func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Value gives nil: the executor hands nothing over this way.
func (c *callContext) Value(any) any { return nil }

// end ends the context for the given reason, unless it has ended before.
func (c *callContext) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.done != nil {
		close(c.done)
	}
}
