package durable

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/task"
)

// core has what all parts of an engine share.
type core struct {
	config   Config
	hub      *Hub
	attempts *inflight
	reads    *batch.Batcher[string, found]
	faults   faults
	counts   counts
	byQueue  perQueue
	outages  outages

	storeAhead atomic.Int64 // how far the store's clock is ahead of ours, in nanoseconds, as of the last Maintain

	goroutines sync.WaitGroup // the goroutines of Run, and those that parts start
	running    atomic.Bool    // Run was called
	operations batch.Gate     // for calls that begin operations; shut when a drain begins
	operating  atomic.Int32   // operations that this node makes
	draining   atomic.Bool
	quit       chan struct{} // closed when a drain begins
}

// storeNow returns the time of the store as far as it is known. It must not be used where the exact time matters;
// the store decides there.
func (c *core) storeNow() time.Time {
	return c.config.Now().Add(time.Duration(c.storeAhead.Load()))
}

// sharedPace returns the pace of calls to a store on another machine.
func (c *core) sharedPace() batch.Pace {
	if !c.config.Shared {
		return batch.Pace{}
	}
	return batch.Pace{Every: sharedPace}
}

// ticker returns a channel that sends when the store must be polled for changes of other processes, and a function
// that stops it. Without other processes it never sends.
func (c *core) ticker() (<-chan time.Time, func()) {
	if !c.config.Shared {
		return nil, func() {}
	}
	ticker := time.NewTicker(lookEvery)
	return ticker.C, ticker.Stop
}

// get reads a task with its history. It may be shown as queued some milliseconds after its action was entered.
func (c *core) get(ctx context.Context, id string) (task.Task, *task.Error) {
	answers, err := c.reads.Ask(ctx, []string{id})
	if err == nil {
		err = answers[0].err
	}
	if err != nil {
		return task.Task{}, c.readRefusal(err)
	}
	t := answers[0].task
	if t.ID == "" {
		return t, RefuseNotFound(id)
	}
	if t.State == task.Running {
		t.Progress = c.attempts.Newest(&t)
	}
	return t, nil
}

// refusalOf returns the refusal in an error of the store. Other errors are logged, not shown to clients.
func (c *core) refusalOf(err error) *task.Error {
	var refusal *task.Error
	if errors.As(err, &refusal) {
		return refusal
	}
	c.config.Logger.Error("the store failed", "error", err)
	return task.Refuse(task.Internal, "the store failed; the node's log says why")
}

// readRefusal returns the refusal of a read, which changes nothing.
func (c *core) readRefusal(err error) *task.Error {
	refusal := c.refusalOf(err)
	if refusal.Code == task.UnknownOutcome {
		return task.Refuse(task.Unavailable, "%s", refusal.Message)
	}
	return refusal
}

// refuseDraining is the refusal of a node that is about to stop.
func refuseDraining(id string) *task.Error {
	refusal := task.Refuse(task.Draining, "this node is about to stop; ask another one")
	refusal.Task = id
	return refusal
}

// pointers returns pointers to the elements of list.
func pointers(list []task.Task) []*task.Task {
	to := make([]*task.Task, len(list))
	for i := range list {
		to[i] = &list[i]
	}
	return to
}

// leaseEnd returns the end of a lease that a call grants which begins now. It reads the clock before the call, so
// the real lease never ends earlier.
func leaseEnd() time.Time { return time.Now().Add(task.LeaseTime) }
