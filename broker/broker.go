// Package broker defines how nodes send messages to each other, and has the simplest
// implementation, Memory. A broker carries ids of queued tasks to the nodes that can run
// them, and events to all nodes. The state of a task is in the store, never in the broker.
//
// An id is a hint that a task may be claimed. It may be lost, arrive twice, late or out of
// order, or belong to a task that was cancelled long ago; the claim checks all that. So a
// broker may drop ids when it is full, and may lose everything in a crash: that costs time,
// but no task. For the same reason a node must not rely on ids alone. A node that takes ids
// also claims from the store: when Taken.Behind is true, when no id has arrived for a
// second, and now and then under steady load, where a lost id would go unnoticed.
//
// Ids wait in lanes, one for each queue and priority. A lane is first in, first out among
// the actions that the taker can run. The taker's side chooses the next lane, since only
// some brokers know priorities. Of thirteen ids eight have high priority, four normal and
// one low; a priority without ids passes its turn to the others. Within a priority the
// queues take turns. Drivers for remote brokers keep a bounded list of the ids that have
// arrived and choose from it; a Memory can be that list.
//
// Errors are *task.Errors: unavailable if the broker is closed or Publish cannot reach it,
// internal if the caller broke the contract. Take and Next return the context's error if
// the context ends first.
package broker

import (
	"context"

	"github.com/posta-tasks/posta/task"
)

// Broker carries ids and events. Its methods are safe for concurrent use. While its server
// is away, Consume, Listen, Take and Next do not fail: nothing arrives until it is back, and
// then Take and Next report that something may have been missed.
type Broker interface {
	IDs
	Events
	// Stats returns the counts of this node's end of the broker.
	Stats() Stats
	// Close ends all takers and listeners. It does not wait: current and later calls fail
	// with unavailable. Closing twice is no error.
	Close() error
}

// IDs carries ids of queued tasks to the nodes that can run them.
type IDs interface {
	// Publish sends ids. When it returns nil, the broker has each id, or has dropped it
	// because it was full; Stats counts that and Taken.Behind reports it. After unavailable
	// the broker may have some of the ids: publish again, or let the nodes find the tasks
	// when they poll the store. It waits no longer than ctx, and never for takers.
	Publish(ctx context.Context, hints []Hint) error
	// Consume returns a taker for the tasks that a node can run. The caller closes it.
	Consume(what Interest) (Taker, error)
}

// Taker receives ids for one node. Close may be called at any time and concurrently; only
// one goroutine may use the other methods.
type Taker interface {
	// Take waits until there are ids and returns at most want.Limit of them, or until there
	// is a reason to ask the store, and returns Behind. The first Take returns Behind, since
	// ids may have been published before the taker existed.
	Take(ctx context.Context, want Want) (Taken, error)
	// Ack acknowledges the ids taken so far: the caller has claimed them or will. If the
	// taker is closed or its process dies, unacknowledged ids may go to other takers.
	Ack()
	// Close ends the taker. A current Take fails with unavailable.
	Close() error
}

// Hint says that a task may be claimed.
type Hint struct {
	ID       string
	Queue    string
	Priority task.Priority
	Action   string
}

// Interest lists what a node can run. It does not change while the taker exists.
type Interest struct {
	Queues  []string // nil: every queue
	Actions []string // the node's actions
}

// Want says how many ids one Take may return. If it changes, cancel that Take and call Take
// again.
type Want struct {
	Limit int // ids at most, 1 or more
	// Queues limits the ids of each queue; "*" stands for each queue that is not named, and
	// nil means that only Limit counts. This keeps the ids of a queue that is paused or has
	// reached its concurrency limit in the broker.
	Queues map[string]int
	// Actions limits the ids of each action; only Limit counts for one that is not in it. An
	// action whose slots are taken keeps its ids this way.
	Actions map[string]int
}

// limit returns how many ids of the queue are wanted.
func (w Want) limit(queue string) int {
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
	// Behind reports that the store may have queued tasks whose ids will not arrive, because
	// a lane was full or the connection ended. A lane that was full accepts no ids until it
	// is empty, so that newer tasks do not overtake dropped ones; then it reports Behind.
	Behind bool
}

// Events carries events to all nodes.
type Events interface {
	// Broadcast sends events to every listener, including those of this node. It does not
	// wait. Events that cannot be sent, or that a listener is too full to keep, are lost and
	// counted. Events of one node stay in order.
	Broadcast(events []Event)
	// Listen returns a listener for the events that are sent from now on. The caller closes it.
	Listen() (Listener, error)
}

// Listener receives events for one subscriber. It keeps a bounded number of them: a slow
// subscriber loses events and delays no one else. Close may be called at any time and
// concurrently; only one goroutine may use Next.
type Listener interface {
	// Next waits until there are events, and returns all of them.
	Next(ctx context.Context) (Received, error)
	// Close ends the listener. A current Next fails with unavailable.
	Close() error
}

// Received is the result of a Next.
type Received struct {
	Events []Event
	// Missed is the number of events that were lost after those in Events. It is at least 1
	// if the number is unknown. When it is not 0, read what matters from the store.
	Missed int64
}

// Kind is the kind of an event.
type Kind string

// The kinds of events.
const (
	Changed    Kind = "changed"    // the state of a task changed
	Progressed Kind = "progressed" // an action reported progress
	Cancelling Kind = "cancelling" // a running task was asked to stop
	Paused     Kind = "paused"     // a queue was paused
	Resumed    Kind = "resumed"    // a queue was resumed
	Waiting    Kind = "waiting"    // a task is queued whose action workers of other nodes have
)

// Event announces a change to nodes at once. It is small: nodes read payloads and results
// from the store.
type Event struct {
	Kind     Kind
	Task     string        // empty for Paused and Resumed
	Queue    string        // the task's queue, or the one that was paused or resumed
	Attempt  int           // for Progressed and Cancelling
	Entry    task.Entry    // for Changed: the new entry of the task's history
	Progress task.Progress // for Progressed
}

// Stats are counts since the broker was opened.
type Stats struct {
	Held      int   // ids that wait in this process now
	Published int64 // ids that Publish accepted, including dropped ones
	Dropped   int64 // ids that were dropped because a lane or the broker was full
	Taken     int64 // ids that takers received
	Sent      int64 // events broadcast
	Missed    int64 // events lost, summed over the listeners
	Away      bool  // the server cannot be used now
	Outages   int64 // how many times the server became unusable
}
