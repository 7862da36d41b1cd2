package executor

import (
	"context"
	"sync/atomic"
	"time"
)

// callContext is the context of one attempt. It makes its channel only when somebody
// asks for it, since most quick actions never do.
type callContext struct {
	e        *Executor
	deadline int64 // by Executor.now
	done     atomic.Pointer[chan struct{}]
	ended    atomic.Uint32 // one of the below
	closed   atomic.Bool   // done has been
}

// Why a context has ended.
const (
	notEnded uint32 = iota
	endedByDeadline
	endedByCancel
)

var _ context.Context = (*callContext)(nil)

// Deadline is when the attempt's timeout runs out.
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

// Err says why the attempt should stop, or nil.
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

// Value returns nil: the executor hands nothing over this way.
func (c *callContext) Value(any) any { return nil }

// end ends the context for one of the reasons, unless it has ended before. Attempts of
// quick actions have none to end.
func (c *callContext) end(why uint32) {
	if c != nil && c.ended.CompareAndSwap(notEnded, why) && c.done.Load() != nil {
		c.close()
	}
}

// close closes the channel once.
func (c *callContext) close() {
	if c.closed.CompareAndSwap(false, true) {
		close(*c.done.Load())
	}
}
