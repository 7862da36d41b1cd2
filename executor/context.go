package executor

import (
	"context"
	"sync/atomic"
	"time"
)

// callContext is the context of one attempt. It allocates its channel only when Done is called, since most quick
// actions never call it.
type callContext struct {
	e        *Executor
	deadline int64 // by Executor.now
	done     atomic.Pointer[chan struct{}]
	ended    atomic.Uint32 // endedByDeadline or endedByCancel; 0 while the context lives
	closed   atomic.Bool   // done is closed
}

// Why a context has ended.
const (
	notEnded uint32 = iota
	endedByDeadline
	endedByCancel
)

var _ context.Context = (*callContext)(nil)

// Deadline returns when the timeout of the attempt ends.
func (c *callContext) Deadline() (time.Time, bool) {
	return c.e.base.Add(time.Duration(c.deadline)), true
}

// Done returns the channel that is closed when the attempt should stop.
func (c *callContext) Done() <-chan struct{} {
	if c.done.Load() == nil {
		done := make(chan struct{})
		c.done.CompareAndSwap(nil, &done)
	}
	if c.ended.Load() != notEnded {
		c.close()
	}
	return *c.done.Load()
}

// Err returns why the attempt should stop, or nil.
func (c *callContext) Err() error {
	if c == nil {
		return nil
	}
	switch c.ended.Load() {
	case endedByDeadline:
		return context.DeadlineExceeded
	case endedByCancel:
		return context.Canceled
	}
	return nil
}

// Value returns nil, since the executor passes no values.
func (c *callContext) Value(any) any { return nil }

// end ends the context for a reason, unless it has ended already. A nil context is allowed, since quick actions
// have none.
func (c *callContext) end(why uint32) {
	if c != nil && c.ended.CompareAndSwap(notEnded, why) && c.done.Load() != nil {
		c.close()
	}
}

// close closes the channel, once.
func (c *callContext) close() {
	if c.closed.CompareAndSwap(false, true) {
		close(*c.done.Load())
	}
}
