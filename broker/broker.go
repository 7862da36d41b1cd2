// Package broker is the contract of messages between nodes, and Memory, its simplest
// implementation. A broker carries ids of queued tasks to nodes that can run them, and
// events to all nodes. It never holds the truth; the store does.
//
// An id is a hint that a task may be claimed. It may be lost, come twice, come late, come
// out of order, or belong to a task that was cancelled long ago; the claim finds out. So a
// broker may drop ids when it has no room, and may lose everything in a crash: that costs
// time, but no task. It also means that nobody may rely on ids alone. A node that takes ids
// also claims from the store: when Taken.Behind is true, when nothing has come for a
// second, and now and then under steady load, when a lost id would go unnoticed.
//
// Ids wait in lanes, one for each queue and priority. A lane is first in, first out among
// the actions that the taker has. The taker's end chooses the next lane, since only some
// brokers know priorities. Of thirteen ids eight have high priority, four normal and one
// low, and no turn is wasted; within a priority the queues take turns. Drivers for remote
// brokers keep a bounded list of the ids that have arrived and choose from it; a Memory can
// be that list.
//
// Errors are *task.Errors: unavailable if the broker is closed or Publish did not reach it,
// internal if the caller broke the contract. Take and Next return the context's error if
// the context ends first.
package broker

import (
	"context"

	"github.com/posta-tasks/posta/task"
)

// Broker carries ids and events. Its methods are safe for concurrent use. While its server
// is away, Consume, Listen, Take and Next do not fail: nothing comes until it is back, and
// then Take and Next report that something may have been missed.
type Broker interface {
	IDs
	Events
	// Stats returns the counts of this node's end of the broker.
	Stats() Stats
	// Close ends all takers and listeners. It does not wait: current and later calls are
	// refused with unavailable. Closing twice is no error.
	Close() error
}

// IDs carries ids of queued tasks to the nodes that can run them.
type IDs interface {
	// Publish hands ids over. When it returns nil, the broker has each id, or has dropped
	// it because there was no room, which Stats counts and Taken.Behind shows. After
	// unavailable the broker may have some of them: publish again, or leave them to the
	// poll of the store. It waits no longer than ctx, and never for takers.
	Publish(ctx context.Context, hints []Hint) error
	// Consume returns a taker for what a node can run. The caller closes it.
	Consume(what Interest) (Taker, error)
}

// Taker is one node's end of the ids. Close may be called at any time and concurrently; the
// other methods belong to one goroutine.
type Taker interface {
	// Take waits until there are ids and returns at most want.Limit of them, or until there
	// is a reason to ask the store, and returns Behind. The first Take returns Behind, since
	// ids may have been published before the taker existed.
	Take(ctx context.Context, want Want) (Taken, error)
	// Ack acknowledges the ids taken so far: they are claimed, or safe with the caller. If
	// the taker is closed or its process dies, unacknowledged ids may go to other takers.
	Ack()
	// Close ends the taker. A current Take is refused with unavailable.
	Close() error
}

// Hint says that a task may be claimed.
type Hint struct {
	ID       string
	Queue    string
	Priority task.Priority
	Action   string
}

// Interest says what a node can run, for its whole life.
type Interest struct {
	Queues  []string // nil: every queue
	Actions []string // that the node has
}

// Want says what a node can run now. It holds for one Take. If it changes, cancel that Take
// and call Take again.
type Want struct {
	Limit int // ids at most, 1 or more
	// Queues limits the ids of each queue; "*" means each queue that is not named, and nil
	// means that only Limit counts. A queue that is paused, or has reached its concurrency
	// limit, keeps its ids this way.
	Queues map[string]int
}

// room returns how many ids of the queue are wanted.
func (w Want) room(queue string) int {
	if w.Queues == nil {
		return w.Limit
	}
	if n, named := w.Queues[queue]; named {
		return n
	}
	return w.Queues["*"]
}

// Taken is the result of a Take.
type Taken struct {
	IDs []string
	// Behind says that the store may have queued tasks whose ids will not come, because
	// there was no room or the connection ended. A lane that had no room accepts no ids
	// until it is empty, so that newer tasks do not overtake dropped ones; then it reports
	// Behind.
	Behind bool
}

// Events carries events to all nodes.
type Events interface {
	// Broadcast sends events to every listener, including those of this node. It does not
	// wait. Events that cannot be sent, or for which a listener has no room, are counted
	// and lost. Events of one node stay in order.
	Broadcast(events []Event)
	// Listen returns a listener for events that are sent from now on. The caller closes it.
	Listen() (Listener, error)
}

// Listener is one subscriber's end of the events. It collects a bounded number of them: a
// slow subscriber loses events, and delays nobody. Close may be called at any time and
// concurrently; Next belongs to one goroutine.
type Listener interface {
	// Next waits until events have come, and returns all of them.
	Next(ctx context.Context) (Heard, error)
	// Close ends the listener. A current Next is refused with unavailable.
	Close() error
}

// Heard is the result of a Next.
type Heard struct {
	Events []Event
	// Missed is the number of events lost since the last Next, after those in Events. It is
	// at least 1 if the number is unknown. Read what matters from the store then.
	Missed int64
}

// Kind is the kind of an event.
type Kind string

// The kinds of events.
const (
	Changed    Kind = "changed"    // a task is in another state
	Progressed Kind = "progressed" // an action reported progress
	Cancelling Kind = "cancelling" // a running task was asked to stop
	Paused     Kind = "paused"     // a queue was paused
	Resumed    Kind = "resumed"    // a queue was resumed
)

// Event is a change that nodes may want to know at once. It is small: payloads and results
// are read from the store.
type Event struct {
	Kind     Kind
	Task     string        // empty for Paused and Resumed
	Queue    string        // the task's, or the one that was paused or resumed
	Attempt  int           // of Progressed and Cancelling
	Entry    task.Entry    // of Changed: what was added to the history
	Progress task.Progress // of Progressed
}

// Stats are counts since the broker was opened.
type Stats struct {
	Held      int   // ids that wait in this process now
	Published int64 // ids handed over, including dropped ones
	Dropped   int64 // ids for which there was no room
	Taken     int64 // ids given to takers
	Sent      int64 // events broadcast
	Missed    int64 // events lost, summed over the listeners
	Away      bool  // the server cannot be used now
	Outages   int64 // how often that has begun
}
